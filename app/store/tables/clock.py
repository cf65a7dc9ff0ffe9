"""The clock of a SQLite database (`app.store.queries.clock`)."""

from datetime import datetime

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from app.store.tables.base import Base


class ClockRow(Base):
    """The boot since which the clock counts, in a single row."""

    __tablename__ = "clock"

    id: Mapped[int] = mapped_column(primary_key=True)
    boot_id: Mapped[str] = mapped_column(String(64))
    """Of the kernel."""
    booted_at: Mapped[datetime]
    """By the wall clock when a process first wrote after the boot."""
