"""The log of a run: what happened, line by line. Its ids are the event ids of the live stream."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from app.store.tables.base import Base, now


class RunEventRow(Base):
    """A line of a run's log."""

    __tablename__ = "run_events"

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"))
    at: Mapped[datetime] = mapped_column(default=now)
    kind: Mapped[str] = mapped_column(String(20))
    """`status`, `phase`, `evaluation` or `log`."""
    message: Mapped[str]

    __table_args__ = (Index("ix_run_events_run_id_id", "run_id", "id"),)
