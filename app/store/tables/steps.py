"""Step metrics, in chunks: one row per report, with its steps packed as `app.domain.runs.result.STEP_DTYPE`."""

from sqlalchemy import ForeignKey, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from app.store.tables.base import Base


class StepChunkRow(Base):
    """Consecutive optimizer steps of a run. Why chunks: docs/decisions/0002-step-metrics-in-chunks.md."""

    __tablename__ = "step_chunks"

    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    first_step: Mapped[int] = mapped_column(primary_key=True)
    last_step: Mapped[int]
    data: Mapped[bytes] = mapped_column(LargeBinary)
