"""What became of the export of a study to the installation's experiment tracker."""

from sqlalchemy.orm import Session

from app.features.elsewhere.services import tracker_exports
from app.store.tables import CollectionRow, StudyRow
from app.web.api.studies.tracker_export import TrackerExportOut


def exported(session: Session, study: StudyRow | CollectionRow) -> TrackerExportOut | None:
    """None if it has neither ended nor been exported since there is a tracker."""
    export = tracker_exports.of_study(session, study)
    return TrackerExportOut.from_object(export.row, state=export.state, url=export.place) if export else None
