"""A dataset: one version, as it stands, with what was found in it and what a base model sees of it."""

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy.orm import Session

from app.domain.errors import Conflict, Invalid, NotFound
from app.domain.messages import _
from app.queue import Doorbell
from app.services import datasets as dataset_service
from app.services import previews
from app.store.queries import base_models, datasets, uploads
from app.store.queries.datasets import Uses
from app.store.session import Database
from app.store.tables import DatasetRow
from app.web.api.datasets import find
from app.web.figures import Figure, drawn
from app.web.figures.data import labels, lengths
from app.web.figures.drawing import render as drawing
from app.web.http.dependencies import Bell, Db, Reading, Store
from app.web.pages.charts import Ending, chart_file
from app.web.pages.data.context import DataLine
from app.web.pages.data.dataset import DatasetPage
from app.web.pages.data.preview import PreviewView
from app.web.pages.data.preview_form import PreviewForm, able_tasks
from app.web.templating import Render

router = APIRouter(prefix="/data/{name}", include_in_schema=False)

PAGE = "data/show.html"
FIELDS = ("model", "task", "max_length", "completion_only_loss")


def asked(request: Request) -> dict[str, str]:
    """What the address says of the preview; the last of a word that comes twice, as a box that is ticked does."""
    return {name: request.query_params[name] for name in FIELDS if name in request.query_params}


Asked = Annotated[dict[str, str], Depends(asked)]


@router.get("")
def show(session: Reading, db: Db, bell: Bell, render: Render, name: str, asked: Asked) -> HTMLResponse:
    """A version."""
    row = find(session, name)
    uses = datasets.uses(session)
    page = DatasetPage(
        line=DataLine.of(row, uses.get(row.id, Uses(0, 0))),
        row=row,
        upload=uploads.get(session, row.upload_id) if row.upload_id else None,
        versions=tuple(DataLine.of(v, uses.get(v.id, Uses(0, 0))) for v in datasets.versions(session, row.name)),
    )
    if row.status != "ready":
        return render.page(PAGE, page)
    base = f"{page.line.address}/charts"
    preview = _preview(session, db, bell, row, asked)
    if preview.found:
        figure = lengths(preview.lengths, preview.max_length, preview.form.model)
        preview = replace(preview, figure=drawn(figure, base, f"?{preview.form.query}"))
    figure_of_labels = drawn(labels(row.facts), base) if row.facts.labels else None
    page = replace(page, figure=figure_of_labels, preview=preview)
    return render.page(PAGE, page, status=422 if preview.errors else 200)


@router.post("/delete")
def delete(session: Reading, db: Db, files: Store, name: str) -> Response:
    """Delete a version; go to what is left of the name."""
    row = find(session, name)
    with db.transaction() as writing:
        dataset_service.delete(writing, files, row.id)
        left = datasets.versions(writing, row.name)
    return RedirectResponse(DataLine.of(left[0], Uses(0, 0)).address if left else "/data", status_code=303)


@router.get("/charts/{figure}.{ending}")
def chart(
    session: Reading,
    db: Db,
    bell: Bell,
    name: str,
    figure: str,
    ending: Ending,
    asked: Asked,
    theme: drawing.Theme = "light",
) -> Response:
    """A figure as a file."""
    row = find(session, name)
    if row.status != "ready":
        raise NotFound(_("%(reference)s is not ready.", reference=row.reference))
    found: dict[str, Figure] = {"labels": labels(row.facts)} if row.facts.labels else {}
    if figure == "lengths":
        preview = _preview(session, db, bell, row, asked)
        if preview.found:
            found["lengths"] = lengths(preview.lengths, preview.max_length, preview.form.model)
    return chart_file(found, figure, ending, theme, f"data-{row.id}")


def _preview(session: Session, db: Database, bell: Doorbell, row: DatasetRow, asked: dict[str, str]) -> PreviewView:
    """Worked out, or asked for."""
    facts = row.facts
    models = [model for model in base_models.everyone(session) if model.status == "ready"]
    form = PreviewForm.of(asked, facts, models)
    model = next((model for model in models if model.name == form.model), None)
    view = PreviewView(
        form=form,
        models=[(model.name, model.name) for model in models if able_tasks(model, facts)],
        tasks=list(able_tasks(model, facts)) if model else [],
        asks=facts.format in ("prompt-completion", "messages"),
        labels=facts.labels,
    )
    task = next((task for task in facts.tasks if task == form.task), None)
    if model is None or task is None:
        return view
    try:
        with db.transaction() as writing:
            estimate = previews.wanted(
                writing, bell, row, model, task, form.length, completion_only_loss=form.completion_only
            )
    except Invalid as error:
        return replace(view, errors=tuple(error.fields))
    except Conflict:  # neither is ready any more: there is nothing to look at
        return view
    return replace(view, estimate=estimate)
