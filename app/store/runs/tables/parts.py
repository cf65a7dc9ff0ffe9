"""Step metrics, in chunks: one row per report, with its steps packed as `app.domain.runs.result.STEP_DTYPE`."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, LargeBinary, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.store.database.base import IDS_ARE_NEVER_REUSED, Base, now
from app.store.database.seen import OF_RUN, UNFILTERED


class StepChunkRow(Base):
    """Consecutive optimizer steps of a run. Why chunks: docs/decisions/0002-step-metrics-in-chunks.md."""

    __tablename__ = "step_chunks"
    seen = OF_RUN

    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    first_step: Mapped[int] = mapped_column(primary_key=True)
    last_step: Mapped[int]
    data: Mapped[bytes] = mapped_column(LargeBinary)


class EvaluationRow(Base):
    """One evaluation of a run. Scores are float32, little-endian, in the order of the items."""

    __tablename__ = "evaluations"
    seen = OF_RUN

    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"))
    subject: Mapped[str] = mapped_column(String(20))
    split: Mapped[str] = mapped_column(String(20))
    step: Mapped[int]
    epoch: Mapped[float]
    n: Mapped[int]
    loss: Mapped[float | None]
    """None only of an imported run."""
    metric: Mapped[str] = mapped_column(String(20))
    """The verdict's metric: that of `score` and `scores`."""
    score: Mapped[float | None] = mapped_column(default=None)
    metrics_json: Mapped[dict[str, Any]] = mapped_column(default=dict)
    items_hash: Mapped[str | None] = mapped_column(String(64), default=None)
    """SHA-256 of the items' names in order: scores are compared item by item only where it is the same."""
    scores: Mapped[bytes | None] = mapped_column(LargeBinary, default=None)

    clusters: Mapped[bytes | None] = mapped_column(LargeBinary, default=None, deferred=True)
    """The cluster of each item, int32, little-endian; None where each item is its own, and of evaluations from before
    this column."""

    __table_args__ = (UniqueConstraint("run_id", "subject", "split", "step"),)


class RunEventRow(Base):
    __tablename__ = "run_events"
    seen = OF_RUN

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"))
    at: Mapped[datetime] = mapped_column(default=now)
    kind: Mapped[str] = mapped_column(String(20))
    """`status`, `phase`, `evaluation` or `log`."""
    message: Mapped[str]

    __table_args__ = (Index("ix_run_events_run_id_id", "run_id", "id"),)


class ArtifactRow(Base):
    """A file of a run's visible attempt; `file` is its place in the files store."""

    __tablename__ = "artifacts"
    seen = OF_RUN

    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(200))
    kind: Mapped[str] = mapped_column(String(20))
    bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    file: Mapped[str] = mapped_column(String(500))

    __table_args__ = (UniqueConstraint("run_id", "name"),)


class WeightDeltasRow(Base):
    __tablename__ = "weight_deltas"
    seen = OF_RUN

    run_id: Mapped[int] = mapped_column(
        ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    summary_json: Mapped[dict[str, Any] | None] = mapped_column(default=None)
    """`app.domain.models.weight_delta.WeightDeltaSummary`; None where no matrix was analysed."""
    analysis_json: Mapped[dict[str, Any]]
    """`app.domain.models.weight_delta.WeightDeltas`: some kilobytes a matrix."""


class EndedRunRow(Base):
    """A run that has ended, of which the control node has not taken note (`app.services.runs.ended`)."""

    __tablename__ = "ended_runs"
    seen = UNFILTERED
    __table_args__ = IDS_ARE_NEVER_REUSED

    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int]
