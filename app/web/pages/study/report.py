"""A study as one file of HTML, which opens without a server and prints."""

from dataclasses import replace

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from sqlalchemy.orm import Session

from app.services import studies as study_service
from app.settings import Settings
from app.store.files import Files
from app.store.tables import now
from app.web.address import Address
from app.web.figures.figure import Figure, drawn
from app.web.figures.study import FIGURES, StudyData, study_figure
from app.web.figures.view import USUAL, ViewParams
from app.web.http.dependencies import Config, Reading, Store
from app.web.http.stylesheet import whole_stylesheet
from app.web.pages.study.report_context import StudyReport
from app.web.pages.study.routes import View, whole_page
from app.web.templating import render_text

router = APIRouter(include_in_schema=False)

ALONE = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:"
"""What the file may load: nothing."""


@router.get("/studies/{study_id:int}/report.html")
def show(request: Request, session: Reading, files: Store, settings: Config, study_id: int, view: View) -> HTMLResponse:
    """The study's page, looked at in the same way, and what it leaves to a click."""
    return whole_report(session, files, settings, study_id, view, Address.of(request, f"/studies/{study_id}"))


def whole_report(
    session: Session,
    files: Files,
    settings: Settings,
    study_id: int,
    view: ViewParams = USUAL,
    address: Address | None = None,
) -> HTMLResponse:
    """The file. Raises NotFound."""
    address = address or Address(f"/studies/{study_id}")
    data = StudyData(session, settings, study_id)
    page = whole_page(session, files, settings, study_id, view, address, data)
    figures = {name: drawn(figure, address.path) for name, figure in _every_figure(data, view).items()}
    spec = study_service.progress(session, study_id).study.spec
    found = StudyReport.of(page, figures, spec, made_at=now(), css=whole_stylesheet())
    headers = {
        "Content-Disposition": f'inline; filename="study-{study_id}.html"',
        "Content-Security-Policy": ALONE,
        "Cache-Control": "no-cache",
    }
    return HTMLResponse(render_text("study/report.html", page=found, policy=ALONE), headers=headers)


def _every_figure(data: StudyData, view: ViewParams) -> dict[str, Figure]:
    """Those of the page; and since paper offers no choice, the trade-off over the other cost and the curves of the
    other loss."""
    other = view.model_copy(
        update={"x": _other(view.x, "time", "memory"), "curve": _other(view.curve, "validation", "loss")}
    )
    figures = {name: study_figure(data, view, name) for name in FIGURES}
    more = {"trade-off": f"trade-off-{other.x}", "curves": f"curves-{other.curve}"}
    return figures | {name: replace(study_figure(data, other, figure), name=name) for figure, name in more.items()}


def _other(shown: str, usual: str, instead: str) -> str:
    return usual if shown != usual else instead
