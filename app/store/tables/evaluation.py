"""Evaluations: a model's quality on a split, with its score on every item where a verdict needs it."""

from typing import Any

from sqlalchemy import ForeignKey, LargeBinary, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.store.tables.base import Base


class EvaluationRow(Base):
    """One evaluation of a run. Scores are float32, little-endian, in the order of the items."""

    __tablename__ = "evaluations"

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
    """All of them by name."""
    items_hash: Mapped[str | None] = mapped_column(String(64), default=None)
    """SHA-256 of the items' names in order: scores are compared item by item only where it is the same."""
    scores: Mapped[bytes | None] = mapped_column(LargeBinary, default=None)

    clusters: Mapped[bytes | None] = mapped_column(LargeBinary, default=None, deferred=True)
    """The cluster of each item, int32, little-endian; None where each item is its own, and of evaluations from before
    this column."""

    __table_args__ = (UniqueConstraint("run_id", "subject", "split", "step"),)
