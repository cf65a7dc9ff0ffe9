"""A study's page: its verdict, its evidence, and what one can do with it."""

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from sqlalchemy.orm import Session

from app.services import annotations
from app.services import studies as study_service
from app.settings import Settings
from app.store.files import Files
from app.store.queries import base_models, datasets
from app.web.address import Address
from app.web.figures import StudyEvidence, drawn, study_figures
from app.web.figures.evidence import of_study as evidence_of_study
from app.web.figures.view import ViewParams
from app.web.http.dependencies import Bell, Config, Db, Reading, Store
from app.web.pages.study.conditions import StudyConditions
from app.web.pages.study.context import StudyPage
from app.web.pages.study.flips import StudyFlips
from app.web.pages.study.progress import StudyAdvance
from app.web.pages.study.tuning import StudyTuning
from app.web.pages.study.view_form import View
from app.web.pages.study.weight_delta import StudyWeightDeltas
from app.web.templating import Render

router = APIRouter(prefix="/studies/{study_id:int}", include_in_schema=False)


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
    """The whole page. What one looks at, and in which order, is in its address."""
    page = whole_page(session, files, settings, study_id, view, Address.of(request, f"/studies/{study_id}"))
    # a script takes the part with the mistake in it from any answer that is no error
    wrong = bool(view.prices.errors) and "hx-request" not in request.headers
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


def whole_page(
    session: Session,
    files: Files,
    settings: Settings,
    study_id: int,
    view: ViewParams,
    address: Address,
    evidence: StudyEvidence | None = None,
) -> StudyPage:
    """Everything on the page of a study as it stands; `evidence` is read if it is not given. Raises NotFound."""
    advance = study_service.progress(session, study_id)
    evidence = evidence or evidence_of_study(session, settings, study_id)
    found = evidence.comparison
    figures = study_figures(evidence, view)
    model = base_models.by_id(session, advance.study.base_model_id)
    queries = {"verdict": "", "trade-off": view.trade_off, "curves": view.curves, "memory": "", "time": ""}
    queries |= {"updates": "", "matrices": view.matrix_map}
    queries["break-even"] = view.prices.query
    queries["tuning"] = ""
    shown = {name: drawn(figures[name], f"/studies/{study_id}/charts", query) for name, query in queries.items()}
    return StudyPage.of(
        study_id,
        found,
        model=model.facts if model else None,
        figures=shown,
        view=view,
        address=address,
        advance=StudyAdvance.of(advance, found),
        conditions=StudyConditions.of(found, model, datasets.by_id(session, advance.study.dataset_id)),
        updates=StudyWeightDeltas.of(found, evidence.updates, view),
        flips=StudyFlips.of(session, files, study_id, found),
        foreseen=evidence.foreseen,
        tuning=StudyTuning.of(study_id, found, shown["tuning"]),
        notes=annotations.notes_of(session, "studies", study_id),
    )
