"""What became of the export of a study to the installation's experiment tracker."""

from datetime import datetime

from app.domain.studies.tracker_export import TrackerState
from app.web.api.answer import Answer


class TrackerExportOut(Answer):
    """The export of a study to the installation's tracker (VEZNA_TRACKER), when it has ended and, if the installation
    says so, until then."""

    state: TrackerState
    """`waiting`: an attempt goes on, or follows once the study has ended; `private`: one follows once the team sees the
    study; `live`: the study goes on, and is exported at intervals until it ends; `failed`: no attempt follows."""
    attempts: int
    """Since the study ended; while it goes on, since it was exported."""
    next_at: datetime | None
    """When the next attempt follows, if none goes on."""
    exported_at: datetime | None
    url: str
    """Address of its experiment in the tracker, or the folder, of which only admins see the path; empty before the
    first export."""
    message: str
    """Why the last attempt failed; otherwise empty."""
