"""A model's map: what fits on a device at which length and batch. What is asked stands in the address."""

from dataclasses import replace
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response

from app.domain.errors import Invalid, NotFound
from app.domain.messages import _
from app.domain.names import Name
from app.domain.resources.memory_map import MapReport
from app.services.resources import memory_maps
from app.services.resources.devices import present
from app.store.queries import base_models
from app.store.tables import BaseModelRow
from app.web.figures.drawing.render import Theme
from app.web.figures.figure import choose, drawn
from app.web.figures.memory_map import map_figures
from app.web.http.dependencies import Bell, Config, Db, Reading
from app.web.http.figure_file import Ending, figure_file
from app.web.http.waiting import look_or_ask
from app.web.pages.models.map import MapPage
from app.web.pages.models.map_form import MapForm
from app.web.templating import Render

router = APIRouter(prefix="/models/{name:path}/map", include_in_schema=False)

FIELDS = ("task", "device", "methods", "lengths", "batch_sizes", "bf16", "gradient_checkpointing")


def asked(request: Request) -> dict[str, list[str]]:
    """What the address says."""
    return {name: request.query_params.getlist(name) for name in FIELDS}


Asked = Annotated[dict[str, list[str]], Depends(asked)]


@router.get("")
def show(session: Reading, db: Db, bell: Bell, settings: Config, render: Render, name: Name, asked: Asked) -> Response:
    """The map, worked out or asked for."""
    row = _model(session, name)
    if row.facts is None:
        return RedirectResponse(f"/models/{quote(name)}", status_code=303)
    form = MapForm.of(row.facts, asked)
    page = MapPage(name, row.facts, form, present(session, settings), report=None, figures=())
    try:
        question = form.question(name)
        report: MapReport = look_or_ask(db, bell, lambda s, b: memory_maps.map_of(s, b, settings, question))
    except Invalid as error:
        page = replace(page, errors=error.at())
        return render.page("models/map.html", page, status=422)
    query = f"?{replace(form, device=report.machine.name).query}"
    figures = (drawn(figure, f"/models/{quote(name)}/map", query) for figure in map_figures(report).values())
    return render.page("models/map.html", replace(page, report=report, figures=tuple(figures)))


@router.get("/{figure}.{ending}")
def chart(
    session: Reading,
    settings: Config,
    name: Name,
    figure: str,
    ending: Ending,
    asked: Asked,
    theme: Theme = "light",
) -> Response:
    """A method's map as a file."""
    row = _model(session, name)
    if row.facts is None:
        raise NotFound(_("%(name)s has not been inspected yet.", name=name))
    report = memory_maps.map_of(session, None, settings, MapForm.of(row.facts, asked).question(name))
    return figure_file(choose(map_figures(report), figure), ending, theme, f"map-{row.id}")


def _model(session: Reading, name: str) -> BaseModelRow:
    row = base_models.by_name(session, name)
    if row is None:
        raise NotFound(_("There is no base model %(name)r.", name=name))
    return row
