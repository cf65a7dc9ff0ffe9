"""A study's page: its verdict, its evidence and its actions."""

from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy.orm import Session

from app.services import annotations
from app.services import studies as study_service
from app.settings import Settings
from app.store.files import Files
from app.store.queries import base_models, datasets
from app.web.address import Address
from app.web.figures.drawing.render import Theme
from app.web.figures.figure import drawn
from app.web.figures.study import FIGURES, StudyData, study_figure
from app.web.figures.view import ViewParams
from app.web.http.dependencies import Bell, Config, Db, Reading, Store
from app.web.http.figure_file import Ending, figure_file
from app.web.pages.study.conditions import StudyConditions
from app.web.pages.study.context import StudyPage
from app.web.pages.study.flips import StudyFlips
from app.web.pages.study.progress import StudyAdvance
from app.web.pages.study.tuning import StudyTuning
from app.web.pages.study.weight_delta import StudyWeightDeltas
from app.web.templating import Render

router = APIRouter(prefix="/studies/{study_id:int}", include_in_schema=False)


def view_params(request: Request) -> ViewParams:
    """What the address says of the view. Raises Invalid for a word that is not a choice."""
    return ViewParams.model_validate(dict(request.query_params))


View = Annotated[ViewParams, Depends(view_params)]


@router.get("")
def show(
    request: Request,
    session: Reading,
    files: Store,
    settings: Config,
    render: Render,
    study_id: int,
    view: View,
) -> HTMLResponse:
    """The whole page. View parameters and sort order are in its address."""
    page = whole_page(session, files, settings, study_id, view, Address.of(request, f"/studies/{study_id}"))
    # htmx swaps the part with the mistake in it only from a successful response
    wrong = bool(view.errors) and "hx-request" not in request.headers
    return render.page("study/show.html", page, status=422 if wrong else 200)


@router.get("/live")
def live(
    request: Request,
    session: Reading,
    files: Store,
    settings: Config,
    render: Render,
    study_id: int,
    view: View,
) -> HTMLResponse:
    """What changes when a run has ended, for htmx; when the last one has, the browser is told to ask for the page."""
    page = whole_page(session, files, settings, study_id, view, Address.of(request, f"/studies/{study_id}"))
    answer = render.page("study/body.html", page)
    if not page.live and "hx-request" in request.headers:
        answer.headers["HX-Refresh"] = "true"
    return answer


@router.get("/progress")
def progress(session: Reading, render: Render, study_id: int) -> HTMLResponse:
    """Where the runs stand, for htmx."""
    found = study_service.comparison(session, study_id)
    return render.page(
        "study/progress_fragment.html", StudyAdvance.of(study_service.progress(session, study_id), found)
    )


@router.post("/seeds")
def add_seeds(db: Db, bell: Bell, study_id: int, count: Annotated[int, Form(ge=1, le=100)]) -> RedirectResponse:
    """More seeds for every arm."""
    with db.transaction() as session:
        study_service.add_seeds(session, bell, study_id, count)
    return RedirectResponse(f"/studies/{study_id}", status_code=303)


@router.post("/cancel")
def cancel(db: Db, bell: Bell, study_id: int) -> RedirectResponse:
    """Cancel what has not ended."""
    with db.transaction() as session:
        study_service.cancel(session, bell, study_id)
    return RedirectResponse(f"/studies/{study_id}", status_code=303)


@router.get("/charts/{name}.{ending}")
def chart(
    session: Reading,
    settings: Config,
    study_id: int,
    name: str,
    ending: Ending,
    view: View,
    theme: Theme = "light",
) -> Response:
    """A figure as a file."""
    figure = study_figure(StudyData(session, settings, study_id), view, name)
    return figure_file(figure, ending, theme, f"study-{study_id}")


def whole_page(
    session: Session,
    files: Files,
    settings: Settings,
    study_id: int,
    view: ViewParams,
    address: Address,
    data: StudyData | None = None,
) -> StudyPage:
    """Everything on the page of a study as it stands; its data are read if they are not given. Raises NotFound."""
    advance = study_service.progress(session, study_id)
    data = data or StudyData(session, settings, study_id)
    found = data.comparison
    model = base_models.by_id(session, advance.study.base_model_id)
    figures = {
        name: drawn(study_figure(data, view, name), f"/studies/{study_id}/charts", view.query(name)) for name in FIGURES
    }
    return StudyPage.of(
        study_id,
        found,
        model=model.facts if model else None,
        figures=figures,
        view=view,
        address=address,
        advance=StudyAdvance.of(advance, found),
        conditions=StudyConditions.of(found, model, datasets.by_id(session, advance.study.dataset_id)),
        updates=StudyWeightDeltas.of(found, data.deltas, view),
        flips=StudyFlips.of(session, files, study_id, found),
        estimates=data.estimates,
        tuning=StudyTuning.of(study_id, found, figures["tuning"]),
        notes=annotations.notes_of(session, "studies", study_id),
    )
