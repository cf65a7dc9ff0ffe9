"""Studies whose runs are trained elsewhere, imports and exports to trackers, on the web."""

from sqlalchemy.orm import Session

from app.domain.comparison.study import StudyComparison
from app.features.elsewhere.api import imports as imports_api
from app.features.elsewhere.api import runs
from app.features.elsewhere.api.tracker_export import exported
from app.features.elsewhere.pages import declare, imports
from app.features.elsewhere.services import tracker_exports
from app.features.elsewhere.services.tracker_exports import ExportState
from app.store.studies import queries as studies
from app.web.site import Section, Site


def _export(session: Session, study_id: int, comparison: StudyComparison) -> ExportState | None:
    return tracker_exports.of_study(session, studies.get(session, study_id))


SITE = Site(
    pages=(imports.router, declare.router),
    api=(imports_api.router, runs.router),
    study_sections=(Section("facts", "elsewhere/tracker_export.html", _export, order=1),),
    actions={
        "studies": "elsewhere/of_studies.html",
        "runs": "elsewhere/of_runs.html",
        "reported run": "elsewhere/of_run.html",
        "compared study": "elsewhere/of_comparison.html",
        "collections": "elsewhere/collections.html",
    },
    study_fields=lambda session, study: {"tracker_export": exported(session, study)},
)
