"""The exports of studies to the installation's experiment tracker."""

from datetime import datetime
from typing import ClassVar

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from app.store.database.base import Base
from app.store.database.seen import OF_STUDY, BelongsTo
from app.store.workers.tables import Repeated


class TrackerExport(Repeated):
    """What became of the export of a study. Each attempt has an `epoch`, by which the database rejects the outcome of
    an earlier one, and a lease, which it renews: until it expires, no other attempt of the control nodes begins."""

    external: ClassVar[bool]
    """Its runs are trained elsewhere."""
    study_id: Mapped[int]
    epoch: Mapped[int] = mapped_column(default=0)
    attempts: Mapped[int] = mapped_column(default=0)
    """Since the study ended; 0 again once it has ended again, after seeds or arms were added. While it goes on, those
    that failed since the last one that succeeded."""
    live: Mapped[bool] = mapped_column(default=False)
    """The study went on at its last attempt, and its end has not been noted since. Whether it goes on now, its runs
    say."""
    next_at: Mapped[datetime | None] = mapped_column(index=True)
    """When it is exported next; None once it was exported, or has failed for good. A private study waits until the team
    sees it."""
    exported_at: Mapped[datetime | None] = mapped_column(default=None)
    """When it was exported last."""
    url: Mapped[str] = mapped_column(default="")
    """Of its experiment in the tracker, or the folder; empty before the first export."""
    message: Mapped[str] = mapped_column(default="")
    """Why the last attempt failed."""


class TrackerExportRow(TrackerExport, Base):
    """A study of this installation."""

    __tablename__ = "tracker_exports"
    seen = OF_STUDY
    external: ClassVar[bool] = False

    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id", ondelete="CASCADE"), primary_key=True)


class ExternalTrackerExportRow(TrackerExport, Base):
    """A study whose runs are trained elsewhere."""

    __tablename__ = "external_tracker_exports"
    seen = BelongsTo("collections", "study_id")
    external: ClassVar[bool] = True

    study_id: Mapped[int] = mapped_column(ForeignKey("collections.id", ondelete="CASCADE"), primary_key=True)
