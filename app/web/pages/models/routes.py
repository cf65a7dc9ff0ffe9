"""Base models: the list with the form that registers one, and a page for each."""

from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy.orm import Session

from app.domain.errors import Conflict, Invalid
from app.domain.names import Name
from app.domain.resources.memory_map import MapReport
from app.services.models import models as model_service
from app.services.models.roots import shown_roots
from app.services.resources import memory_maps
from app.settings import Settings
from app.store.models import queries as base_models
from app.web.forms.sent import SentForm, creating
from app.web.http.dependencies import Bell, Config, Db, Reading
from app.web.pages.models.context import ModelPage, ModelsPage
from app.web.pages.models.form import registration, typed
from app.web.pages.models.methods import TaskMethods
from app.web.pages.models.modules import ModuleTree
from app.web.pages.models.modules_form import ModulesForm
from app.web.templating import Render

router = APIRouter(include_in_schema=False)

LIST, SHOW = "models/index.html", "models/show.html"


@router.get("/models")
def index(session: Reading, settings: Config, render: Render) -> HTMLResponse:
    return render.page(LIST, _list(session, settings, {}))


@router.post("/models")
def register(db: Db, bell: Bell, session: Reading, settings: Config, render: Render, form: SentForm) -> Response:
    """Register a model and have a worker inspect it; or the form again with its errors."""
    try:
        request = registration(typed(form))
        with creating(db, form).transaction() as writing:
            model_service.register(writing, bell, request, settings.model_roots)
    except (Invalid, Conflict) as error:
        page = _list(session, settings, form)
        return render.page(LIST, replace(page, errors=error.at("name")), status=422)
    return RedirectResponse(f"/models/{quote(request.name)}", status_code=303)


@router.post("/models/{name:path}/inspection")
def inspect_again(db: Db, bell: Bell, name: Name) -> RedirectResponse:
    """Inspect a model again whose inspection failed."""
    with db.transaction() as session:
        model_service.inspect_again(session, bell, name)
    return RedirectResponse(f"/models/{quote(name)}", status_code=303)


@router.get("/models/{name:path}/modules")
def modules(
    session: Reading, render: Render, request: Request, name: Name, task: str = "", labels: str = ""
) -> Response:
    """The module tree alone, for htmx; the address becomes that of the whole page."""
    facts, page = base_models.get(session, name).facts, f"/models/{quote(name)}?{request.url.query}"
    if facts is None or "hx-request" not in request.headers:
        return RedirectResponse(page, status_code=303)
    tree = ModuleTree.of(TaskMethods.of(name, facts, task, labels), ModulesForm.of(request.query_params))
    answer = render.page("models/modules.html", tree)
    answer.headers["HX-Push-Url"] = page
    return answer


@router.get("/models/{name:path}")
def show(
    session: Reading,
    settings: Config,
    render: Render,
    request: Request,
    name: Name,
    task: str = "",
    labels: str = "",
) -> HTMLResponse:
    """A base model, for a task and a number of labels."""
    row = base_models.get(session, name)
    if (facts := row.facts) is None:
        return render.page(SHOW, ModelPage(row), of=("models", name))
    chosen = TaskMethods.of(name, facts, task, labels)
    tree = ModuleTree.of(chosen, ModulesForm.of(request.query_params))
    return render.page(SHOW, ModelPage(row, chosen, tree, _memory(session, settings, chosen)), of=("models", name))


def _memory(session: Session, settings: Settings, chosen: TaskMethods) -> MapReport | None:
    """What the memory map already has; showing a page requests nothing."""
    try:
        return memory_maps.map_report(session, None, settings, chosen.map_form.spec(chosen.name))
    except Invalid:
        return None


def _list(session: Session, settings: Settings, form: Mapping[str, str]) -> ModelsPage:
    return ModelsPage(base_models.everyone(session), typed(form), shown_roots(session, settings.model_roots))
