"""Base models: the list with a form for another, and a page for each that says what can be adapted."""

from dataclasses import replace
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy.orm import Session

from app.domain.errors import Conflict, FieldError, Invalid, NotFound
from app.domain.models import ModelFacts
from app.domain.names import Name
from app.domain.tasks import Task
from app.services import models as model_service
from app.settings import Settings
from app.store.queries import base_models
from app.web.contexts.models import MOST_LABELS, USUAL_LABELS, Adapted, ModelLine, ModelPage, ModelsPage
from app.web.dependencies import Bell, Config, Db, Reading
from app.web.forms.model import ModelForm
from app.web.refusals import told
from app.web.templating import Render

router = APIRouter(include_in_schema=False)

LIST = "pages/models/index.html"


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
        fields = tuple(map(told, error.fields)) if isinstance(error, Invalid) else ()
        page = _list(session, settings, form)
        return render.page(LIST, replace(page, errors=fields or (FieldError("name", error.message),)), status=422)
    return RedirectResponse(f"/models/{quote(wanted.name)}", status_code=303)


@router.get("/models/{name:path}")
def show(session: Reading, render: Render, name: Name, task: str = "", labels: str = "") -> HTMLResponse:
    """What can be adapted in a base model, for a task over so many labels."""
    row = base_models.by_name(session, name)
    if row is None:
        raise NotFound(f"there is no base model {name!r}")
    line = ModelLine.of(row)
    adapted = Adapted.of(line.facts, _task(line.facts, task), _labels(labels)) if line.facts else None
    return render.page("pages/models/show.html", ModelPage(line, row.pinned, adapted))


def _list(session: Session, settings: Settings, form: ModelForm) -> ModelsPage:
    models = tuple(ModelLine.of(row) for row in base_models.everyone(session))
    return ModelsPage(models, form, tuple(str(root) for root in settings.model_roots))


def _task(facts: ModelFacts, asked: str) -> Task:
    """The task that was asked for, or the first that the model can do."""
    return next((task for task in facts.tasks if task == asked), next(iter(facts.tasks)))


def _labels(asked: str) -> int:
    """A sensible number of labels, whatever stands in the address."""
    return min(max(int(asked), 1), MOST_LABELS) if asked.isdecimal() and len(asked) < 9 else USUAL_LABELS
