"""The export of a study to the installation's experiment tracker."""

from datetime import datetime

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from app.store.tables.base import Base


class TrackerExportRow(Base):
    """A study that has ended, and what became of its export. Each attempt has an `epoch`, by which the database
    rejects the outcome of an earlier one."""

    __tablename__ = "tracker_exports"

    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id", ondelete="CASCADE"), primary_key=True)
    epoch: Mapped[int] = mapped_column(default=0)
    attempts: Mapped[int] = mapped_column(default=0)
    """Since the study ended; 0 again once it has ended again, after seeds or arms were added."""
    next_at: Mapped[datetime | None] = mapped_column(index=True)
    """When it is exported next; None once it was exported, or has failed for good."""
    exported_at: Mapped[datetime | None] = mapped_column(default=None)
    """When it was exported last."""
    url: Mapped[str] = mapped_column(default="")
    """Of its experiment in the tracker, or the folder; empty before the first export."""
    message: Mapped[str] = mapped_column(default="")
    """Why the last attempt failed."""
