"""A heat table: cells by length and batch, darker the nearer they come to a device's room, each with a mark for whether
it fits; a line parts what fits from the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from app.web.figures.drawing import grammar as alt
from app.web.figures.drawing.labels import text_width, widest
from app.web.figures.drawing.theme import INK, LINE, MUTED, Paper, at_x, at_y, own_colour, values

ROW = 34
NARROWEST = 46
"""A column that is narrower has its mark above the number."""
DARKEST = 0.2
Verdict = Literal["fits", "tight", "does_not_fit"]
MARKS: dict[Verdict, tuple[str, str]] = {
    "fits": ("M-0.8,0.1L-0.2,0.7L0.9,-0.7", "var(--ok)"),
    "tight": ("M0,-0.8L0.9,0.8H-0.9Z", "var(--warn)"),
    "does_not_fit": ("M-0.7,-0.7L0.7,0.7M0.7,-0.7L-0.7,0.7", "var(--bad)"),
}
"""Stroke and colour: those of the icons that stand beside the words elsewhere."""


@dataclass(frozen=True)
class Cell:
    """One length and batch, by its place from the left and from below."""

    column: int
    row: int
    verdict: Verdict
    label: str
    share: float
    """Of the device's room."""


@dataclass(frozen=True)
class Heat:
    """Cells over two axes."""

    columns: tuple[str, ...]
    rows: tuple[str, ...]
    """From below."""
    cells: tuple[Cell, ...]
    fits: tuple[int, ...]
    """By column, how many rows fit from below."""
    across: str
    up: str


def chart(data: Heat, width: int) -> alt.LayerChart:
    """Cells, marks, numbers, and the line."""
    paper = Paper(
        width=width,
        height=ROW * len(data.rows),
        left=widest(data.rows) + 14,
        right=4,
        top=26,
        bottom=46,
    )
    return paper.draw(_cells(data), _marks(data, paper), _numbers(data, paper), _boundary(data), *_axes(data, paper))


def _x(data: Heat, field: str) -> alt.X:
    return alt.X(f"{field}:Q", scale=alt.Scale(domain=[0, len(data.columns)], nice=False), axis=None)


def _y(data: Heat, field: str) -> alt.Y:
    return alt.Y(f"{field}:Q", scale=alt.Scale(domain=[0, len(data.rows)], nice=False), axis=None)


def _cells(data: Heat) -> alt.Chart:
    rows = [
        {
            "left": c.column,
            "right": c.column + 1,
            "bottom": c.row,
            "top": c.row + 1,
            "opacity": DARKEST * min(1.0, c.share) if c.verdict != "does_not_fit" else 0.0,
        }
        for c in data.cells
    ]
    found: alt.Chart = (
        values(rows)
        .mark_rect(fill=INK, stroke=LINE, strokeWidth=1)
        .encode(
            x=_x(data, "left"),
            x2=alt.X2("right:Q"),
            y=_y(data, "bottom"),
            y2=alt.Y2("top:Q"),
            fillOpacity=alt.FillOpacity("opacity:Q", scale=None, legend=None),
        )
    )
    return found


def _narrow(data: Heat, paper: Paper) -> bool:
    return paper.plot / max(len(data.columns), 1) < NARROWEST


def _marks(data: Heat, paper: Paper) -> alt.Chart:
    """Left of the number, or above it."""
    size = paper.plot / max(len(data.columns), 1)
    rows = []
    for c in data.cells:
        shape, colour = MARKS[c.verdict]
        left = (text_width(c.label, 11) / 2 + 6) / size
        x, y = (c.column + 0.5, c.row + 0.76) if _narrow(data, paper) else (c.column + 0.5 - left, c.row + 0.5)
        rows.append({"x": x, "y": y, "shape": shape, "colour": colour})
    found: alt.Chart = (
        values(rows)
        .mark_point(size=64, opacity=1, strokeWidth=1.7, fill="transparent", strokeJoin="round")
        .encode(
            x=_x(data, "x"),
            y=_y(data, "y"),
            shape=alt.Shape("shape:N", scale=None, legend=None),
            stroke=alt.Stroke("colour:N", scale=None, legend=None),
        )
    )
    return found


def _numbers(data: Heat, paper: Paper) -> alt.Chart:
    narrow = _narrow(data, paper)
    rows = [
        {
            "x": c.column + 0.5,
            "y": c.row + (0.34 if narrow else 0.5),
            "text": c.label,
            "colour": MUTED if c.verdict == "does_not_fit" else INK,
        }
        for c in data.cells
    ]
    text = values(rows).mark_text(align="center", baseline="middle", dx=0 if narrow else 6, fontSize=11)
    found: alt.Chart = text.encode(x=_x(data, "x"), y=_y(data, "y"), text=alt.Text("text:N"), color=own_colour())
    return found


def _boundary(data: Heat) -> alt.Chart:
    """Steps along the upper edge of what fits."""
    points = [(column + side, height) for column, height in enumerate(data.fits) for side in (0, 1)]
    rows = [{"order": place, "x": x, "y": y} for place, (x, y) in enumerate(points)]
    line = values(rows).mark_line(stroke=INK, strokeWidth=3, strokeCap="square", strokeJoin="miter", clip=False)
    found: alt.Chart = line.encode(x=_x(data, "x"), y=_y(data, "y"), order=alt.Order("order:Q"))
    return found


def _axes(data: Heat, paper: Paper) -> list[alt.Chart]:
    below = [{"x": place + 0.5, "text": name} for place, name in enumerate(data.columns)]
    beside = [{"y": place + 0.5, "text": name} for place, name in enumerate(data.rows)]
    names = values(below).mark_text(align="center", baseline="top", dy=7, color=MUTED)
    sizes = values(beside).mark_text(align="right", baseline="middle", dx=-8, color=MUTED)
    across = values([{"text": data.across}]).mark_text(align="center", baseline="top", dy=27, color=MUTED)
    up = values([{"text": data.up}]).mark_text(align="left", baseline="bottom", dy=-8, color=MUTED)
    text = alt.Text("text:N")
    return [
        names.encode(x=_x(data, "x"), y=at_y(paper.height), text=text),
        sizes.encode(x=at_x(0), y=_y(data, "y"), text=text),
        across.encode(x=at_x(paper.plot / 2), y=at_y(paper.height), text=text),
        up.encode(x=at_x(-paper.left + 4), y=at_y(0), text=text),
    ]
