"""Weight deltas (ΔW): how training changed each matrix. A table of its own, since lists of runs do not read it."""

from typing import Any

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from app.store.tables.base import Base


class WeightDeltasRow(Base):
    """A run's analysis."""

    __tablename__ = "weight_deltas"

    run_id: Mapped[int] = mapped_column(
        ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    summary_json: Mapped[dict[str, Any] | None] = mapped_column(default=None)
    """`app.domain.models.weight_delta.WeightDeltaSummary`; None where no matrix was analysed."""
    analysis_json: Mapped[dict[str, Any]]
    """`app.domain.models.weight_delta.WeightDeltas`: some kilobytes a matrix."""
