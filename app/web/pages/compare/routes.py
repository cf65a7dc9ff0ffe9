"""Comparisons of any runs: the page, and the files of its chart."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response

from app.domain.comparison.runs import RunComparison
from app.domain.errors import NotFound
from app.domain.messages import _
from app.services.comparison import compare as compare_service
from app.services.comparison.compare import Selected
from app.store.runs import queries as runs
from app.store.tables import RunRow
from app.web.address import Address
from app.web.figures.drawing.axes import AXES, axis_options
from app.web.figures.drawing.render import Theme
from app.web.figures.figure import Drawn, choose, drawn
from app.web.figures.studies.arms_table import SORTS, ArmsTable
from app.web.figures.studies.trade_off import trade_off
from app.web.http.dependencies import Reading
from app.web.http.files.figure_file import Ending, figure_file
from app.web.http.queries.compare import SelectedRuns
from app.web.templating import Render
from app.words.studies.power import alternative_options

MOST_COLUMNS = 12
"""Arms whose settings stand side by side."""


@dataclass(frozen=True)
class ComparePage:
    selected: Selected
    comparison: RunComparison
    address: Address
    x: str
    y: str
    """Axes of the trade-off."""
    show_all: bool
    """All settings, not only those that differ."""
    table: ArmsTable
    figure: Drawn
    others: Sequence[RunRow]
    declared: int | None = None
    """The study elsewhere that all its runs are of."""

    @property
    def axes(self) -> tuple[tuple[str, str], ...]:
        """Values and titles of the axes that the trade-off may have."""
        return axis_options(self.comparison, self.x, self.y)

    @property
    def alternatives(self) -> list[tuple[str, str]]:
        """What the comparison can test, with titles."""
        return alternative_options()

    @property
    def reported(self) -> bool:
        """Runs of it were trained elsewhere."""
        return any(arm.reported for arm in self.comparison.arms)

    @property
    def alone(self) -> bool:
        """There is nothing to compare it with."""
        return len(self.comparison.arms) < 2

    @property
    def many(self) -> bool:
        """So many arms that the chart says more than the table, and comes first; their settings are not listed."""
        return len(self.comparison.arms) > MOST_COLUMNS

    @property
    def settings(self) -> dict[str, tuple[str, ...]]:
        """The settings that are shown: values by name, one for each arm."""
        return dict(sorted((self.comparison.settings if self.show_all else self.comparison.differing_settings).items()))

    def settings_of(self, place: int) -> str:
        """Of one arm, as JSON to copy."""
        own = {name: values[place] for name, values in self.settings.items() if values[place]}
        return json.dumps(own, indent=2, ensure_ascii=False)


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
