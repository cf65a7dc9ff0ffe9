"""The list of studies."""

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, RedirectResponse

from app.services.studies import studies as study_service
from app.store.data import queries as datasets
from app.store.models import queries as base_models
from app.store.studies import external
from app.store.studies import queries as studies
from app.web.figures.drawing import render as render_charts
from app.web.http.dependencies import After, Reading
from app.web.pages.studies.context import StudiesPage, StudyLine
from app.web.templating import Render

router = APIRouter(include_in_schema=False)

PAGE = 25


@router.get("/")
def home() -> RedirectResponse:
    """The list of studies is the first page."""
    return RedirectResponse("/studies", status_code=303)


@router.get("/studies")
def index(session: Reading, render: Render, after: After = None, archived: bool = False) -> HTMLResponse:
    """Studies, newest first, each with its verdict: the archived ones, or the others."""
    render_charts.warm()
    listed = studies.page(session, archived=archived, after=after, limit=PAGE)
    comparisons = study_service.comparisons(session, listed.rows)
    models = base_models.names(session)
    titles = {row.id: row.shown for row in datasets.all_versions(session)}
    page = StudiesPage(
        studies=tuple(
            StudyLine(row, comparisons[row.id], models.get(row.base_model_id, ""), titles.get(row.dataset_id, ""))
            for row in listed.rows
        ),
        first=after is None,
        next_after=listed.next_after,
        archived=archived,
        any_archived=studies.any_archived(session),
        elsewhere=tuple(external.studies(session)) if after is None and not archived else (),
    )
    return render.page("studies/index.html", page)
