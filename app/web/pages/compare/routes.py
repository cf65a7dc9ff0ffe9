"""Comparisons of any runs: the page, and the files of its chart."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response

from app.domain.errors import NotFound
from app.domain.messages import _
from app.services.comparison import compare as compare_service
from app.store.runs import queries as runs
from app.web.address import Address
from app.web.figures.drawing.axes import AXES
from app.web.figures.drawing.render import Theme
from app.web.figures.figure import choose, drawn
from app.web.figures.studies.arms_table import SORTS, ArmsTable
from app.web.figures.studies.trade_off import trade_off
from app.web.http.dependencies import Reading
from app.web.http.files.figure_file import Ending, figure_file
from app.web.http.queries.compare import SelectedRuns
from app.web.pages.compare.context import ComparePage
from app.web.templating import Render

router = APIRouter(prefix="/compare", include_in_schema=False)

OFFERED = 12
"""Runs that are offered to add to a single one."""
WIDTHS = (1040, 356)
"""Widths of the trade-off in pixels: wide, narrow."""
AxisName = Annotated[str, Query(pattern=f"^({'|'.join(AXES)})$")]
Sort = Annotated[str, Query(pattern=f"^(-?({'|'.join(SORTS)}))?$")]


@router.get("")
def show(
    request: Request,
    session: Reading,
    render: Render,
    selection: SelectedRuns,
    x: AxisName = "memory",
    y: AxisName = "score",
    sort: Sort = "",
    show: Annotated[Literal["differences", "all"], Query()] = "differences",
) -> HTMLResponse:
    """The page. Runs, reference, margin, order, axis and which settings are shown are in its address."""
    selected = compare_service.compare(session, selection)
    comparison = selected.comparison
    if comparison is None:
        return render.page("compare/none.html", selected)
    address = Address.of(request, "/compare")
    page = ComparePage(
        selected=selected,
        comparison=comparison,
        address=address,
        x=x,
        y=y,
        show_all=show == "all",
        table=ArmsTable.of(comparison, address, sort),
        figure=drawn(trade_off(comparison, x, y, WIDTHS), "/compare/charts", address.words),
        others=runs.beside(session, comparison.runs[0].run_id, limit=OFFERED) if len(comparison.arms) == 1 else (),
        declared=selection.collection if all(arm.reported for arm in comparison.arms) else None,
    )
    return render.page("compare/show.html", page)


@router.get("/charts/{name}.{ending}")
def chart(
    session: Reading,
    selection: SelectedRuns,
    name: str,
    ending: Ending,
    x: AxisName = "memory",
    y: AxisName = "score",
    theme: Theme = "light",
) -> Response:
    """The chart as a file; what is compared is in its address."""
    comparison = compare_service.compare(session, selection).comparison
    if comparison is None:
        raise NotFound(_("No run is given. Add runs=1,2,3 to the address."))
    figure = trade_off(comparison, x, y, WIDTHS)
    return figure_file(choose({figure.name: figure}, name), ending, theme, "compare")
