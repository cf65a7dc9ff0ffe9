"""Weight updates: what a run's training did to each matrix, in a table of its own that lists of runs do not read."""

from typing import Any

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from app.store.tables.base import Base


class WeightUpdatesRow(Base):
    """A run's analysis."""

    __tablename__ = "weight_updates"

    run_id: Mapped[int] = mapped_column(
        ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    summary_json: Mapped[dict[str, Any] | None] = mapped_column(default=None)
    """`app.domain.models.weight_delta.UpdateSummary`; None where no matrix was analysed."""
    found_json: Mapped[dict[str, Any]]
    """`app.domain.models.weight_delta.RunUpdates`: some kilobytes a matrix."""
