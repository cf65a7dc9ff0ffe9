"""Base models: the list with the form that registers one, and a page for each."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy.orm import Session

from app.domain.errors import Conflict, Invalid
from app.domain.models.base_model import ModelFacts
from app.domain.names import Name
from app.domain.tasks import Task
from app.services import models as model_service
from app.services.resources import memory_maps
from app.settings import Settings
from app.store.queries import base_models
from app.web.http.dependencies import Bell, Config, Db, Reading
from app.web.numbers import NotANumber, parse_whole
from app.web.pages.models.context import (
    DEFAULT_LABELS,
    MOST_LABELS,
    Adapted,
    MethodMemory,
    ModelLine,
    ModelPage,
    ModelsPage,
)
from app.web.pages.models.form import BLANK, registration, typed
from app.web.pages.models.map_form import MapForm
from app.web.pages.models.modules import ModuleTree
from app.web.pages.models.modules_form import ModulesForm
from app.web.templating import Render

router = APIRouter(include_in_schema=False)

LIST, SHOW = "models/index.html", "models/show.html"


async def form_values(request: Request) -> Mapping[str, str]:
    """The fields of the form."""
    async with request.form(max_files=0, max_fields=20) as form:
        return typed(form)


FormValues = Annotated[Mapping[str, str], Depends(form_values)]


@router.get("/models")
def index(session: Reading, settings: Config, render: Render) -> HTMLResponse:
    """Every base model."""
    return render.page(LIST, _list(session, settings, BLANK))


@router.post("/models")
def register(
    db: Db,
    bell: Bell,
    session: Reading,
    settings: Config,
    render: Render,
    form: FormValues,
) -> Response:
    """Register a model and have a worker inspect it; or the form again with its errors."""
    try:
        wanted = registration(form)
        with db.transaction() as writing:
            model_service.register(writing, bell, wanted, settings.model_roots)
    except (Invalid, Conflict) as error:
        page = _list(session, settings, form)
        return render.page(LIST, replace(page, errors=error.at("name")), status=422)
    return RedirectResponse(f"/models/{quote(wanted.name)}", status_code=303)


@router.get("/models/{name:path}/modules")
def modules(
    session: Reading, render: Render, request: Request, name: Name, task: str = "", labels: str = ""
) -> Response:
    """The module tree alone, for htmx; the address becomes that of the whole page."""
    facts, page = base_models.get(session, name).facts, f"/models/{quote(name)}?{request.url.query}"
    if facts is None or "hx-request" not in request.headers:
        return RedirectResponse(page, status_code=303)
    answer = render.page("models/modules.html", _tree(name, facts, task, labels, request))
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
    line = ModelLine(row)
    if line.facts is None:
        return render.page(SHOW, ModelPage(line, None))
    adapted = Adapted.of(line.facts, _task(line.facts, task), _labels(labels))
    tree = _tree(name, line.facts, task, labels, request)
    memory = _method_memory(session, settings, name, MethodMemory.form_of(adapted, line.facts))
    return render.page(SHOW, ModelPage(line, adapted, tree, memory))


def _method_memory(session: Session, settings: Settings, name: str, form: MapForm) -> MethodMemory:
    """What the memory map already has; showing a page requests nothing."""
    try:
        return MethodMemory(form, memory_maps.map_report(session, None, settings, form.spec(name)))
    except Invalid:
        return MethodMemory(form, None)


def _tree(name: str, facts: ModelFacts, task: str, labels: str, request: Request) -> ModuleTree:
    form = ModulesForm.of(request.query_params)
    return ModuleTree.of(name, facts, _task(facts, task), _labels(labels), form)


def _list(session: Session, settings: Settings, form: Mapping[str, str]) -> ModelsPage:
    models = tuple(map(ModelLine, base_models.everyone(session)))
    return ModelsPage(models, form, tuple(str(root) for root in settings.model_roots))


def _task(facts: ModelFacts, asked: str) -> Task:
    """The requested task, or the first that the model supports."""
    return next((task for task in facts.tasks if task == asked), next(iter(facts.tasks)))


def _labels(asked: str) -> int:
    """A valid number of labels, whatever the address says."""
    try:
        return min(max(parse_whole(asked), 1), MOST_LABELS)
    except NotANumber:
        return DEFAULT_LABELS
