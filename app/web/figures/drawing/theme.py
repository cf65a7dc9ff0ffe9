"""How charts look: colour tokens, each arm's mark, and the frame that every chart is drawn in.

Colours are CSS custom properties (`var(--m-lora)`). Vega writes them into the SVG unchanged, so one drawing follows the
page's light and dark theme, and the stylesheet stays the only place where a colour is written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from app.domain.comparison.model import ArmResult
from app.domain.methods import Family
from app.web.figures.drawing import grammar as alt

FONT = "IBM Plex Sans, Liberation Sans, sans-serif"
INK, MUTED, LINE, STRONG, SURFACE, BAND = (
    f"var(--{name})" for name in ("ink", "ink-2", "line", "line-strong", "surface", "band")
)
NAME, SMALL = 13, 12
"""Font sizes: an arm's name; everything else."""
WIDE_FROM = 420
"""Pixels from which a drawing is the wide one."""
TITLE_GAP = 10

CONFIG: dict[str, Any] = {
    "aria": False,  # one label for the picture, the numbers are in its table
    "background": "transparent",
    "font": FONT,
    "view": {"stroke": None},
    "title": {
        "anchor": "start",
        "frame": "bounds",
        "color": MUTED,
        "fontSize": SMALL,
        "fontWeight": "normal",
        "offset": TITLE_GAP,
    },
    "legend": {
        "labelColor": INK,
        "labelFontSize": SMALL,
        "labelFont": FONT,
        "symbolSize": 70,
        "symbolStrokeWidth": 2,
        "rowPadding": 5,
        "columnPadding": 14,
        "offset": 14,
    },
    "axis": {
        "labelColor": MUTED,
        "titleColor": MUTED,
        "labelFontSize": SMALL,
        "titleFontSize": SMALL,
        "titleFontWeight": "normal",
        "gridColor": LINE,
        "domain": False,
        "ticks": False,
        "labelPadding": 8,
    },
    "axisX": {
        "grid": False,
        "domain": True,
        "domainColor": STRONG,
        "ticks": True,
        "tickColor": STRONG,
        "titlePadding": 8,
        "labelPadding": 4,
        "labelBound": False,
        "labelFlush": False,
        "labelOverlap": True,
    },
    "text": {"color": INK, "fontSize": SMALL},
}


@dataclass(frozen=True)
class FamilyStyle:
    """What stands for a family of methods, everywhere the same."""

    colour: str
    marker: str
    """Vega's name of a shape, or an SVG path in the square from −1 to 1."""
    half: str
    """SVG path of the same marker with only its left half filled: a family's third arm. The right half is an outline
    drawn forth and back, which encloses nothing."""
    dash: tuple[int, ...]


FAMILIES: dict[Family | Literal["base"], FamilyStyle] = {
    "full": FamilyStyle("var(--m-full)", "square", "M-1,-1H0V1H-1ZM0,-1H1V1H0H1V-1Z", (1, 0)),
    "partial": FamilyStyle(
        "var(--m-partial)",
        "M-1.1,-0.55H1.1V0.55H-1.1Z",
        "M-1.1,-0.55H0V0.55H-1.1ZM0,-0.55H1.1V0.55H0H1.1V-0.55Z",
        (12, 3),
    ),
    "head": FamilyStyle("var(--m-head)", "triangle-up", "M0,-0.866L-1,0.866H0ZM0,-0.866L1,0.866H0H1L0,-0.866Z", (6, 3)),
    "lora": FamilyStyle("var(--m-lora)", "circle", "M0,-1A1,1,0,0,0,0,1ZM0,-1A1,1,0,0,1,0,1A1,1,0,0,0,0,-1Z", (1, 0)),
    "low-rank": FamilyStyle(
        "var(--m-low-rank)",
        "M-1,-1H1L-1,1H1Z",
        "M-1,-1H0V1H-1L0,0ZM0,-1H1L0,0L1,1H0H1L0,0L1,-1Z",
        (7, 2, 2, 2),
    ),
    "scaling": FamilyStyle(
        "var(--m-scaling)",
        "triangle-right",
        "M-0.866,-1L0,-0.5V0.5L-0.866,1ZM0,-0.5L0.866,0L0,0.5L0.866,0Z",
        (3, 2),
    ),
    "prompt": FamilyStyle("var(--m-prompt)", "triangle-down", "M0,0.866L-1,-0.866H0ZM0,0.866L1,-0.866H0H1Z", (9, 4)),
    "adapter": FamilyStyle("var(--m-adapter)", "diamond", "M-1,0L0,-1V1ZM0,-1L1,0L0,1L1,0Z", (5, 2, 2, 2, 2, 2)),
    "base": FamilyStyle("var(--m-base)", "cross", "", (2, 3)),
}
LATER_DASHES = ((8, 2), (4, 2), (2, 2))
"""For a family's second arm, its third and the rest: never colour alone."""


@dataclass(frozen=True)
class MarkStyle:
    name: str
    family: Family | Literal["base"]
    hollow: int = 0
    """0 filled, 1 hollow, 2 and more half-filled."""

    @classmethod
    def of(cls, arm: ArmResult, *, named: bool = True) -> MarkStyle:
        """Style of an arm; without its name it has no label."""
        return cls(arm.title if named else "", arm.family, arm.hollow)

    @property
    def colour(self) -> str:
        return FAMILIES[self.family].colour

    @property
    def fill(self) -> str:
        return SURFACE if self.hollow == 1 else self.colour

    @property
    def shape(self) -> str:
        style = FAMILIES[self.family]
        return style.half if self.hollow >= 2 and style.half else style.marker

    @property
    def dash(self) -> list[int]:
        later = LATER_DASHES[min(self.hollow, len(LATER_DASHES)) - 1]
        return list(FAMILIES[self.family].dash if self.hollow == 0 else later)

    @property
    def fields(self) -> dict[str, object]:
        """Columns that `markers` and `own_colour` read."""
        return {"arm": self.name, "colour": self.colour, "fill": self.fill, "shape": self.shape}


CROSS = "M-1,-1L1,1M-1,1L1,-1"
"""SVG path of a mark for what failed, in the square from −1 to 1."""
FEW = 50
"""Rows up to which a chart holds them one by one."""


def values(rows: Sequence[Mapping[str, object]]) -> alt.Chart:
    """A chart over rows given in the chart itself; many as one text, since Altair copies every value at every step."""
    if len(rows) > FEW:
        text = json.dumps([dict(row) for row in rows])
        return alt.Chart(alt.InlineData(values=text, format=alt.JsonDataFormat(type="json")))
    return alt.Chart(alt.InlineData(values=[dict(row) for row in rows]))


def at_x(pixels: float) -> alt.XValue:
    """So many pixels from the plot's left edge."""
    return alt.XValue(pixels)  # type: ignore[no-untyped-call]


def at_y(pixels: float) -> alt.YValue:
    """So many pixels from the plot's top edge."""
    return alt.YValue(pixels)  # type: ignore[no-untyped-call]


def own_colour() -> alt.Color:
    """Each row in the colour that it names."""
    return alt.Color("colour:N", scale=None, legend=None)


def markers(rows: Sequence[Mapping[str, object]], size: int, **position: Any) -> alt.Chart:
    """Each row's marker, in the row's `shape`, `fill` and `colour`, without a legend."""
    marks: alt.Chart = (
        values(rows)
        .mark_point(size=size, opacity=1, strokeWidth=2)
        .encode(
            **position,
            shape=alt.Shape("shape:N", scale=None, legend=None),
            fill=alt.Fill("fill:N", scale=None, legend=None),
            stroke=alt.Stroke("colour:N", scale=None, legend=None),
        )
    )
    return marks


class ArmEncodings:
    """Each row drawn as its `arm` is, with a legend at the right that lists the arms in the given order; arms without
    names have none."""

    def __init__(self, styles: Sequence[MarkStyle], width: int) -> None:
        self._styles = styles
        limit = 150 if width > WIDE_FROM else 92
        look: dict[str, Any] = {"labelLimit": limit, "labelFontWeight": "bold", "symbolOpacity": 1}
        named = any(style.name for style in styles)
        self._legend = alt.Legend(title=None, orient="right", **look) if named else None

    def _by_arm(self, channel: type[Any], attribute: str) -> Any:
        choices = [getattr(style, attribute) for style in self._styles]
        scale = alt.Scale(domain=[style.name for style in self._styles], range=choices)
        return channel("arm:N", scale=scale, legend=self._legend)

    def _dashes(self) -> alt.StrokeDashValue:
        """Without a scale, whose legend would dash the outlines of the markers."""
        cases: Any = [
            {"test": f"datum.arm === {json.dumps(style.name)}", "value": style.dash} for style in self._styles
        ]
        return alt.StrokeDashValue([1, 0], condition=cases)

    @property
    def lines(self) -> dict[str, Any]:
        return {"stroke": self._by_arm(alt.Stroke, "colour"), "strokeDash": self._dashes()}

    @property
    def markers(self) -> dict[str, Any]:
        """Colour, shape and fill; the legend shows these."""
        return {
            "stroke": self._by_arm(alt.Stroke, "colour"),
            "shape": self._by_arm(alt.Shape, "shape"),
            "fill": self._by_arm(alt.Fill, "fill"),
        }

    @property
    def key(self) -> alt.Chart:
        """A layer for the legend alone, for a chart that has lines and no markers of its own."""
        rows = values([{"arm": style.name} for style in self._styles])
        layer: alt.Chart = rows.mark_point(opacity=0, strokeWidth=2).encode(x=at_x(0), y=at_y(0), **self.markers)
        return layer


def named_axis(names: Sequence[str], places: Sequence[float], **options: Any) -> alt.Axis:
    """An axis with a name at each of some places of a quantitative scale."""
    label = f"{json.dumps(list(names))}[indexof({json.dumps(list(places))}, datum.value)]"
    options = {"grid": False, "domain": False, "ticks": False} | options
    return marked_axis(places, labelExpr=label, **options)


def marked_axis(places: Sequence[float], **options: Any) -> alt.Axis:
    """An axis that is marked at just these places; Vega would leave out what is beyond its own count of marks."""
    return alt.Axis(values=list(places), tickCount=len(places), labelOverlap=False, **options)


def number_axis(title: str | None = None, **options: Any) -> alt.Axis:
    """An axis of numbers, the large ones shortened: `200k`."""
    label = "abs(datum.value) >= 1e5 ? format(datum.value, '~s') : datum.label"
    return alt.Axis(title=title, labelExpr=label, **{"tickCount": 4} | options)


def frame(*layers: alt.Chart, width: int, height: int, up: str = "") -> alt.LayerChart:
    """The layers in a drawing of so many pixels across. Vega fits the plot, which has the height, the axes and the
    legend into it; `up` names the y axis above the plot."""
    return alt.LayerChart(
        layer=list(layers),
        width=width,
        height=height,
        padding={"left": 6, "top": 2, "right": 6, "bottom": 4},
        autosize={"type": "fit-x", "contains": "padding"},
        title=up or alt.Undefined,
    )


def side(share: float) -> dict[str, Any]:
    """Where the text beside a vertical line stands that lies at this share of the axis: where there is more room."""
    return {"align": "left", "dx": 6} if share < 0.6 else {"align": "right", "dx": -6}


def halo(chart: alt.Chart, encoding: Mapping[str, Any], **options: Any) -> list[alt.Chart]:
    """Text that stays readable over lines: the surface's colour around it."""
    return [
        chart.mark_text(**options | {"stroke": stroke, "strokeWidth": 4, "strokeJoin": "round"}).encode(**encoding)
        for stroke in (SURFACE, "transparent")
    ]
