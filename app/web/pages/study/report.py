"""A study as one HTML file that opens without a server and prints."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.metadata import version

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from sqlalchemy.orm import Session

from app.domain.studies.spec import StudySpec
from app.services import studies as study_service
from app.settings import Settings
from app.store.files import Files
from app.store.tables import now
from app.web.address import Address
from app.web.figures.figure import Drawn, Figure, drawn
from app.web.figures.study import FIGURES, StudyData, study_figure
from app.web.figures.view import USUAL, ViewParams
from app.web.http.dependencies import Config, Reading, Store
from app.web.http.errors import problems
from app.web.http.stylesheet import whole_stylesheet
from app.web.pages.study.context import StudyPage
from app.web.pages.study.routes import View, whole_page
from app.web.specs import as_yaml
from app.web.templating import render_text

router = APIRouter(include_in_schema=False)
api_router = APIRouter(prefix="/api/v1/studies", tags=["studies"])
"""The report's REST resource. It lies here because its content is the page."""

OFFLINE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:"
"""Content security policy: the file loads nothing."""


@dataclass(frozen=True)
class StudyReport:
    """The study's page, the figures that the page shows only on a click, and the spec to repeat the study."""

    study: StudyPage
    more: tuple[Drawn, ...]
    spec: str
    """YAML, for `vezna submit`."""
    made_at: datetime
    version: str
    """Of Vezna."""
    css: str

    @classmethod
    def of(cls, study: StudyPage, figures: Mapping[str, Drawn], spec: StudySpec) -> "StudyReport":
        """From the page and every figure by name."""
        more = tuple(drawn for name, drawn in figures.items() if name not in study.figures and not drawn.figure.empty)
        return cls(study, more, as_yaml(spec), now(), version("vezna"), whole_stylesheet())


@router.get("/studies/{study_id:int}/report.html")
def show(request: Request, session: Reading, files: Store, settings: Config, study_id: int, view: View) -> HTMLResponse:
    """The study's page in the same view, with the figures that the page shows only on a click."""
    return _report(session, files, settings, study_id, view, Address.of(request, f"/studies/{study_id}"))


@api_router.get(
    "/{study_id}/report",
    operation_id="reportStudy",
    response_class=HTMLResponse,
    responses={200: {"content": {"text/html": {}}}, **problems(404)},
)
def resource(session: Reading, files: Store, settings: Config, study_id: int) -> HTMLResponse:
    """The study's page as one HTML file that needs no server: it opens offline, and prints."""
    return _report(session, files, settings, study_id, USUAL, Address(f"/studies/{study_id}"))


def _report(
    session: Session, files: Files, settings: Settings, study_id: int, view: ViewParams, address: Address
) -> HTMLResponse:
    """Raises NotFound."""
    data = StudyData(session, settings, study_id)
    page = whole_page(session, files, settings, study_id, view, address, data)
    figures = {name: drawn(figure, address.path) for name, figure in _every_figure(data, view).items()}
    spec = study_service.progress(session, study_id).study.spec
    headers = {
        "Content-Disposition": f'inline; filename="study-{study_id}.html"',
        "Content-Security-Policy": OFFLINE_POLICY,
        "Cache-Control": "no-cache",
    }
    report = StudyReport.of(page, figures, spec)
    return HTMLResponse(render_text("study/report.html", page=report, policy=OFFLINE_POLICY), headers=headers)


def _every_figure(data: StudyData, view: ViewParams) -> dict[str, Figure]:
    """The page's figures, and, since paper offers no choice, the trade-off over the other cost and the curves of the
    other loss."""
    other = view.model_copy(
        update={"x": _other(view.x, "time", "memory"), "curve": _other(view.curve, "validation", "loss")}
    )
    figures = {name: study_figure(data, view, name) for name in FIGURES}
    more = {"trade-off": f"trade-off-{other.x}", "curves": f"curves-{other.curve}"}
    return figures | {name: replace(study_figure(data, other, figure), name=name) for figure, name in more.items()}


def _other(shown: str, usual: str, instead: str) -> str:
    return usual if shown != usual else instead
