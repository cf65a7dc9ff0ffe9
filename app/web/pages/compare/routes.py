"""Any runs held against each other: the page, and the files of its figure."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response
from sqlalchemy.orm import Session

from app.domain.comparison.runs import Compared
from app.domain.errors import NotFound
from app.domain.messages import _
from app.services import compare as compare_service
from app.services.compare import Found
from app.store.queries import runs
from app.web.address import Address
from app.web.api.compare import AskedRuns
from app.web.figures import drawn
from app.web.figures.compared import Cost, trade_off
from app.web.figures.drawing import render
from app.web.http.dependencies import Reading
from app.web.pages.charts import Ending, chart_file
from app.web.pages.compare.context import ComparePage, CompareView, Shown, Sort, nothing
from app.web.shell import Option
from app.web.templating import Render

router = APIRouter(prefix="/compare", include_in_schema=False)

OFFERED = 12
"""Runs that are offered to add to one that stands alone."""


@router.get("")
def show(
    request: Request,
    session: Reading,
    render: Render,
    wanted: AskedRuns,
    cost: Cost = "memory",
    sort: Sort = "given",
    show: Annotated[Shown, Query()] = "differences",
) -> HTMLResponse:
    """The whole page. Runs, reference, margin, order, axis and which settings are shown are in its address."""
    found = compare_service.compare(session, wanted)
    if found.compared is None:
        return render.page("compare/none.html", nothing(found.missing))
    address = Address.of(request, "/compare")
    figure = drawn(trade_off(found.compared, cost), "/compare/charts", address.words)
    page = ComparePage.of(
        found.compared,
        address=address,
        view=CompareView(cost, sort, show),
        figure=figure,
        missing=found.missing,
        stray_reference=found.stray_reference,
        study_names=found.study_names,
        others=_others(session, found.compared),
    )
    return render.page("compare/show.html", page)


@router.get("/charts/{name}.{ending}")
def chart(
    session: Reading,
    wanted: AskedRuns,
    name: str,
    ending: Ending,
    cost: Cost = "memory",
    theme: render.Theme = "light",
) -> Response:
    """The figure as a file; what is compared is in its address."""
    compared = _there(compare_service.compare(session, wanted))
    figure = trade_off(compared, cost)
    return chart_file({figure.name: figure}, name, ending, theme, "compare")


def _there(found: Found) -> Compared:
    if found.compared is None:
        raise NotFound(_("No run is given. Add runs=1,2,3 to the address."))
    return found.compared


def _others(session: Session, found: Compared) -> tuple[Option, ...]:
    """Runs on the same data, or of the same collection, for one that stands alone."""
    if len(found.arms) > 1:
        return ()
    rows = runs.beside(session, found.runs[0].run_id, limit=OFFERED)
    return tuple(Option(str(row.id), row.arm) for row in rows)
