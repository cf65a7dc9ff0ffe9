"""Base models: the list with a form for another, and a page for each that says what can be adapted."""

from dataclasses import replace
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy.orm import Session

from app.domain.errors import Conflict, Invalid, NotFound
from app.domain.messages import _
from app.domain.models.base_model import ModelFacts
from app.domain.names import Name
from app.domain.tasks import Task
from app.services import models as model_service
from app.services.resources import memory_maps
from app.settings import Settings
from app.store.queries import base_models
from app.store.tables import BaseModelRow
from app.web.http.dependencies import Bell, Config, Db, Reading
from app.web.numbers import NotANumber, parse_whole
from app.web.pages.models.context import MOST_LABELS, USUAL_LABELS, Adapted, ModelLine, ModelPage, ModelsPage, Needs
from app.web.pages.models.form import ModelForm
from app.web.pages.models.map_form import MapForm
from app.web.pages.models.modules import ModuleTree
from app.web.pages.models.modules_form import ModulesForm
from app.web.templating import Render

router = APIRouter(include_in_schema=False)

LIST, SHOW = "models/index.html", "models/show.html"


async def typed(request: Request) -> ModelForm:
    """What was typed."""
    async with request.form(max_files=0, max_fields=20) as form:
        return ModelForm.typed(form)


@router.get("/models")
def index(session: Reading, settings: Config, render: Render) -> HTMLResponse:
    """Every base model."""
    return render.page(LIST, _list(session, settings, ModelForm.blank()))


@router.post("/models")
def register(
    db: Db, bell: Bell, session: Reading, settings: Config, render: Render, form: Annotated[ModelForm, Depends(typed)]
) -> Response:
    """Make a model known and have it inspected, or show the form again with what is wrong at its fields."""
    try:
        wanted = form.registration()
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
    """The module tree alone, for a page that shows it; its address is that page's."""
    facts, page = _row(session, name).facts, f"/models/{quote(name)}?{request.url.query}"
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
    """What can be adapted in a base model, for a task over so many labels."""
    row = _row(session, name)
    line = ModelLine.of(row)
    if line.facts is None:
        return render.page(SHOW, ModelPage(line, row.pinned, None))
    adapted = Adapted.of(line.facts, _task(line.facts, task), _labels(labels))
    tree = _tree(name, line.facts, task, labels, request)
    needs = _needs(session, settings, name, Needs.form_of(adapted, line.facts))
    return render.page(SHOW, ModelPage(line, row.pinned, adapted, tree, needs))


def _row(session: Session, name: str) -> BaseModelRow:
    row = base_models.by_name(session, name)
    if row is None:
        raise NotFound(_("There is no base model %(name)r.", name=name))
    return row


def _needs(session: Session, settings: Settings, name: str, form: MapForm) -> Needs:
    """What has been worked out; nothing is asked for by looking at a page."""
    try:
        return Needs(form, memory_maps.map_of(session, None, settings, form.question(name)))
    except Invalid:
        return Needs(form, None)


def _tree(name: str, facts: ModelFacts, task: str, labels: str, request: Request) -> ModuleTree:
    form = ModulesForm.of(request.query_params)
    return ModuleTree.of(name, facts, _task(facts, task), _labels(labels), form)


def _list(session: Session, settings: Settings, form: ModelForm) -> ModelsPage:
    models = tuple(ModelLine.of(row) for row in base_models.everyone(session))
    return ModelsPage(models, form, tuple(str(root) for root in settings.model_roots))


def _task(facts: ModelFacts, asked: str) -> Task:
    """The task that was asked for, or the first that the model can do."""
    return next((task for task in facts.tasks if task == asked), next(iter(facts.tasks)))


def _labels(asked: str) -> int:
    """A sensible number of labels, whatever stands in the address."""
    try:
        return min(max(parse_whole(asked), 1), MOST_LABELS)
    except NotANumber:
        return USUAL_LABELS
