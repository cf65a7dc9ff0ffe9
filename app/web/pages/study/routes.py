"""A study's page: its verdict, its evidence and its actions."""

from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from app.services.studies import studies as study_service
from app.web.address import Address
from app.web.figures.drawing.render import Theme
from app.web.figures.studies.study import StudyData, study_figure
from app.web.figures.studies.view import ViewParams
from app.web.forms.once import OnceByForm
from app.web.http.dependencies import Bell, Config, Db, Reading, Store
from app.web.http.files.figure_file import Ending, figure_file
from app.web.pages.study.context import TABS, StudyPage
from app.web.pages.study.progress import RunsProgress
from app.web.templating import Render

router = APIRouter(prefix="/studies/{study_id:int}", include_in_schema=False)


def view_params(request: Request) -> ViewParams:
    """What the address says of the view. Raises Invalid for a word that is not a choice."""
    return ViewParams.model_validate(dict(request.query_params))


View = Annotated[ViewParams, Depends(view_params)]


def study_page(
    request: Request, session: Reading, files: Store, settings: Config, study_id: int, view: View
) -> StudyPage:
    """The page in the view of the address, with the tab that its last segment names. Raises NotFound."""
    address, tab = f"/studies/{study_id}", request.url.path.rpartition("/")[2]
    if tab in TABS:
        address = f"{address}/{tab}"
    else:
        tab = ""
    return StudyPage.of(StudyData(session, settings, study_id), files, view, Address.of(request, address), tab)


Page = Annotated[StudyPage, Depends(study_page)]


@router.get("")
def show(request: Request, render: Render, page: Page) -> HTMLResponse:
    """The page. Its tab, view parameters and sort order are in its address."""
    # htmx swaps the part with the mistake in it only from a successful response
    wrong = bool(page.view.errors) and "hx-request" not in request.headers
    answer = render.page("study/show.html", page, status=422 if wrong else 200, of=("studies", page.id))
    if not page.live and request.headers.get("hx-trigger") == "live":
        answer.headers["HX-Refresh"] = "true"
    return answer


for _tab in TABS:
    router.add_api_route(f"/{_tab}", show, name=f"show_{_tab}")


@router.get("/progress")
def progress(session: Reading, render: Render, study_id: int) -> HTMLResponse:
    study = study_service.comparison(session, study_id)
    page = RunsProgress(study, study_service.progress(session, study_id))
    return render.page("study/progress_fragment.html", page)


@router.post("/seeds")
def add_seeds(
    db: Db, bell: Bell, once: OnceByForm, study_id: int, count: Annotated[int, Form(ge=1, le=100)]
) -> RedirectResponse:
    with db.transaction() as session:
        study_service.add_seeds(session, bell, study_id, count)
        address = once.keep(session, f"/studies/{study_id}")
    return RedirectResponse(address, status_code=303)


@router.post("/cancel")
def cancel(db: Db, bell: Bell, study_id: int) -> RedirectResponse:
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
    figure = study_figure(StudyData(session, settings, study_id), view, name)
    return figure_file(figure, ending, theme, f"study-{study_id}")
