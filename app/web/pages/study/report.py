"""A study as one HTML file that opens without a server and prints."""

import hashlib
from base64 import b64encode
from dataclasses import replace
from functools import cache
from importlib.metadata import version

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from app.store.tables import now
from app.web.address import Address
from app.web.figures.figure import Figure, drawn
from app.web.figures.studies.study import StudyData, study_figure
from app.web.figures.studies.view import USUAL, ViewParams
from app.web.http.dependencies import Config, Reading, Store
from app.web.http.errors import problems
from app.web.http.files.stylesheet import whole_stylesheet
from app.web.pages.study.context import StudyPage
from app.web.pages.study.routes import Page
from app.web.specs import as_yaml
from app.web.templating import render_text

router = APIRouter(include_in_schema=False)
api_router = APIRouter(prefix="/api/v1/studies", tags=["studies"])
"""The report's REST resource. It lies here because its content is the page."""


@cache
def offline_policy() -> str:
    """Content security policy of the file: it loads nothing, and its one stylesheet is named by its hash."""
    digest = b64encode(hashlib.sha256(whole_stylesheet().encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; font-src data:; base-uri 'none'"


@router.get("/studies/{study_id:int}/report.html")
def show(page: Page) -> HTMLResponse:
    """The study's page in the same view, with the figures that the page shows only on a click."""
    return _report(page)


@api_router.get(
    "/{study_id}/report",
    operation_id="reportStudy",
    response_class=HTMLResponse,
    responses={200: {"content": {"text/html": {}}}, **problems(401, 403, 404, 422, 429, 503)},
)
def resource(session: Reading, files: Store, settings: Config, study_id: int) -> HTMLResponse:
    """The study's page as one HTML file that needs no server: it opens offline, and prints."""
    data = StudyData(session, settings, study_id)
    return _report(StudyPage.of(data, files, USUAL, Address(f"/studies/{study_id}")))


def _report(page: StudyPage) -> HTMLResponse:
    more = [drawn(figure, page.address.path) for figure in _more_figures(page.data, page.view) if not figure.empty]
    text = render_text(
        "study/report.html",
        page=page,
        more=more,
        spec=as_yaml(page.study.spec),
        made_at=now(),
        version=version("vezna"),
        css=whole_stylesheet(),
        policy=offline_policy(),
    )
    headers = {
        "Content-Disposition": f'inline; filename="study-{page.id}.html"',
        "Content-Security-Policy": f"{offline_policy()}; form-action 'none'; frame-ancestors 'none'",
        "Cache-Control": "no-cache",
    }
    return HTMLResponse(text, headers=headers)


def _more_figures(data: StudyData, view: ViewParams) -> list[Figure]:
    """Since paper offers no choice: the trade-off over the other cost, and the curves of the other loss."""
    x = "memory" if view.x == "time" else "time"
    curve = "loss" if view.curve == "validation" else "validation"
    other = view.model_copy(update={"x": x, "curve": curve})
    names = {"trade-off": f"trade-off-{x}", "curves": f"curves-{curve}"}
    return [replace(study_figure(data, other, figure), name=name) for figure, name in names.items()]
