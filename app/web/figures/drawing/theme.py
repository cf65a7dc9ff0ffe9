"""The look of the charts: tokens for colours, a marker and a dash for each arm, and the paper that a chart is drawn on.

Colours are CSS custom properties (`var(--m-lora)`). Vega writes them into the SVG untouched, so one drawing follows the
page's light and dark theme, and the stylesheet stays the only place where a colour is written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from app.domain.methods import Family
from app.web.figures.drawing import grammar as alt

FONT = "IBM Plex Sans, Liberation Sans, sans-serif"
INK, MUTED, LINE, STRONG, SURFACE, BAND = (
    f"var(--{name})" for name in ("ink", "ink-2", "line", "line-strong", "surface", "band")
)
NAME, SMALL = 13, 12
"""Font sizes: an arm's name; everything else."""

CONFIG: dict[str, Any] = {
    "aria": False,  # one label for the picture, the numbers are in its table
    "background": "transparent",
    "font": FONT,
    "view": {"stroke": None},
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
    "axisY": {"titleAngle": 0, "titleAlign": "left", "titleAnchor": "start", "titleY": -16},
    "text": {"color": INK, "fontSize": SMALL},
}


@dataclass(frozen=True)
class FamilyStyle:
    """What stands for a family of methods, everywhere the same."""

    colour: str
    marker: str
    """Vega's name of a shape, or an SVG path in the square from −1 to 1."""
    half: str
    """SVG path of the marker's left half, in the square from −1 to 1: a family's third arm."""
    dash: tuple[int, ...]


FAMILIES: dict[Family | Literal["base"], FamilyStyle] = {
    "full": FamilyStyle("var(--m-full)", "square", "M-1,-1H0V1H-1Z", (1, 0)),
    "partial": FamilyStyle("var(--m-partial)", "M-1.1,-0.55H1.1V0.55H-1.1Z", "M-1.1,-0.55H0V0.55H-1.1Z", (12, 3)),
    "head": FamilyStyle("var(--m-head)", "triangle-up", "M0,-0.866L-1,0.866H0Z", (6, 3)),
    "lora": FamilyStyle("var(--m-lora)", "circle", "M0,-1A1,1,0,0,0,0,1Z", (1, 0)),
    "low-rank": FamilyStyle("var(--m-low-rank)", "M-1,-1H1L-1,1H1Z", "M-1,-1H0V1H-1L0,0Z", (7, 2, 2, 2)),
    "scaling": FamilyStyle("var(--m-scaling)", "triangle-right", "M-0.866,-1L0,-0.5V0.5L-0.866,1Z", (3, 2)),
    "prompt": FamilyStyle("var(--m-prompt)", "triangle-down", "M0,0.866L-1,-0.866H0Z", (9, 4)),
    "adapter": FamilyStyle("var(--m-adapter)", "diamond", "M-1,0L0,-1V1Z", (5, 2, 2, 2, 2, 2)),
    "base": FamilyStyle("var(--m-base)", "cross", "", (2, 3)),
}
LATER_DASHES = ((8, 2), (4, 2), (2, 2))
"""For a family's second arm, its third and the rest: never colour alone."""


@dataclass(frozen=True)
class MarkStyle:
    """How one arm is drawn."""

    name: str
    family: Family | Literal["base"]
    hollow: int = 0
    """0 filled, 1 hollow, 2 and more half-filled."""

    @property
    def colour(self) -> str:
        """The family's colour."""
        return FAMILIES[self.family].colour

    @property
    def dash(self) -> list[int]:
        """Dash of its lines."""
        later = LATER_DASHES[min(self.hollow, len(LATER_DASHES)) - 1]
        return list(FAMILIES[self.family].dash if self.hollow == 0 else later)

    @property
    def fields(self) -> dict[str, object]:
        """Columns that `markers` and the colour encoding read."""
        style = FAMILIES[self.family]
        return {
            "arm": self.name,
            "colour": style.colour,
            "fill": style.colour if self.hollow == 0 else SURFACE,
            "shape": style.marker,
            "half": style.half if self.hollow >= 2 else "",
        }


CROSS = "M-1,-1L1,1M-1,1L1,-1"
"""SVG path of a mark for what failed, in the square from −1 to 1."""
FEW = 50
"""Rows up to which a chart holds them one by one."""


def own_colour() -> alt.Color:
    """Each row in the colour that it names."""
    return alt.Color("colour:N", scale=None, legend=None)


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


def to_x(pixels: float) -> alt.X2Value:
    """Where something ends, in pixels from the plot's left edge."""
    return alt.X2Value(pixels)  # type: ignore[no-untyped-call]


def to_y(pixels: float) -> alt.Y2Value:
    """Where something ends, in pixels from the plot's top edge."""
    return alt.Y2Value(pixels)  # type: ignore[no-untyped-call]


def markers(rows: Sequence[Mapping[str, object]], size: int, **position: Any) -> list[alt.Chart]:
    """Each row's marker, in the row's `shape`, `fill` and `colour`; a half over it where the row has one."""
    whole = (
        values(rows)
        .mark_point(size=size, opacity=1, strokeWidth=2)
        .encode(
            **position,
            shape=alt.Shape("shape:N", scale=None, legend=None),
            fill=alt.Fill("fill:N", scale=None, legend=None),
            stroke=alt.Stroke("colour:N", scale=None, legend=None),
        )
    )
    halves = [row for row in rows if row["half"]]
    if not halves:
        return [whole]
    half = (
        values(halves)
        .mark_point(size=size, opacity=1, strokeWidth=0)
        .encode(
            **position,
            shape=alt.Shape("half:N", scale=None, legend=None),
            fill=alt.Fill("colour:N", scale=None, legend=None),
        )
    )
    return [whole, half]


@dataclass(frozen=True)
class Paper:
    """The drawing and the plot inside it, in pixels. Nothing is left to automatic layout, so labels can be placed."""

    width: int
    """Of the whole drawing."""
    height: int
    """Of the plot."""
    left: int = 0
    right: int = 0
    top: int = 0
    bottom: int = 0

    @property
    def plot(self) -> int:
        """Width of the plot."""
        return max(40, self.width - self.left - self.right)

    def draw(self, *layers: alt.Chart) -> alt.LayerChart:
        """The layers, one on another."""
        return alt.LayerChart(
            layer=list(layers),
            width=self.plot,
            height=self.height,
            padding={"left": self.left, "right": self.right, "top": self.top, "bottom": self.bottom},
            autosize="none",
        )
