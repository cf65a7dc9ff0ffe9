"""A model's memory map: what fits a device at which max length and batch size. The address has the form."""

from dataclasses import replace
from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from app.domain.errors import Invalid, NotFound
from app.domain.messages import _
from app.domain.validation import Name
from app.services.resources import memory_maps
from app.services.resources.devices import available
from app.services.resources.estimates import read_or_request
from app.store.models import queries as base_models
from app.web.figures.drawing.render import Theme
from app.web.figures.figure import choose, drawn
from app.web.figures.resources.memory_map import map_figures
from app.web.http.dependencies import Bell, Config, Db, Reading
from app.web.http.files.figure_file import Ending, figure_file
from app.web.pages.models.map import MapPage
from app.web.pages.models.map_form import MapForm
from app.web.templating import Render

router = APIRouter(prefix="/models/{name:path}/map", include_in_schema=False)


@router.get("")
def show(
    session: Reading, db: Db, bell: Bell, settings: Config, render: Render, name: Name, request: Request
) -> Response:
    """The map; it is requested where it is missing."""
    row = base_models.get(session, name)
    if row.facts is None:
        return RedirectResponse(f"/models/{quote(name)}", status_code=303)
    form = MapForm.of(row.facts, request.query_params)
    page = MapPage(name, row.facts, form, available(session, settings), report=None, figures=())
    try:
        spec = form.spec(name)
        report = read_or_request(db, bell, lambda s, b: memory_maps.map_report(s, b, settings, spec))
    except Invalid as error:
        page = replace(page, errors=error.at())
        return render.page("models/map.html", page, status=422)
    address = f"?{replace(form, device=report.device.name).query}"
    figures = (drawn(figure, f"/models/{quote(name)}/map", address) for figure in map_figures(report).values())
    return render.page("models/map.html", replace(page, report=report, figures=tuple(figures)))


@router.get("/{figure}.{ending}")
def chart(
    session: Reading,
    settings: Config,
    name: Name,
    figure: str,
    ending: Ending,
    request: Request,
    theme: Theme = "light",
) -> Response:
    row = base_models.get(session, name)
    if row.facts is None:
        raise NotFound(_("%(name)s has not been inspected yet.", name=name))
    report = memory_maps.map_report(session, None, settings, MapForm.of(row.facts, request.query_params).spec(name))
    return figure_file(choose(map_figures(report), figure), ending, theme, f"map-{row.id}")
