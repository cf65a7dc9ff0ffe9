"""Work that one worker at a time does on request: what its rows have in common, whatever is asked for."""

from datetime import datetime

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from app.store.tables.base import Base, now

LIVE = ("queued", "running")
"""States of work that has not ended."""


class WorkRow(Base):
    """A request to a worker, and what became of it."""

    __abstract__ = True

    id: Mapped[int] = mapped_column(primary_key=True)
    status: Mapped[str] = mapped_column(String(20), default="queued", index=True)
    """`queued`, `running`, `succeeded`, `failed` or `cancelled`."""
    epoch: Mapped[int] = mapped_column(default=0)
    """Number of claims; it fences the writes of a worker whose claim was taken over."""
    attempts: Mapped[int] = mapped_column(default=0)
    """Claims that were not handed back."""
    progress: Mapped[float] = mapped_column(default=0.0)
    """Share of the work that is done, 0 to 1."""
    message: Mapped[str] = mapped_column(default="")
    """Why it failed."""
    created_at: Mapped[datetime] = mapped_column(default=now)
    started_at: Mapped[datetime | None] = mapped_column(default=None)
    """Start of the current claim."""
    ended_at: Mapped[datetime | None] = mapped_column(default=None)
    seen_at: Mapped[datetime | None] = mapped_column(default=None)
    """Last heartbeat of the worker that has it."""
    rung_at: Mapped[datetime | None] = mapped_column(default=None)
    """When a worker was last rung for."""

    @property
    def live(self) -> bool:
        """It has not ended."""
        return self.status in LIVE
