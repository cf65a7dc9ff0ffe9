"""Every matrix of a model by block and module: the more of what is measured, the darker, in the arm's colour."""

from __future__ import annotations

from dataclasses import dataclass

from app.web.figures.drawing import grammar as alt
from app.web.figures.drawing.labels import text_width, widest
from app.web.figures.drawing.theme import INK, LINE, MUTED, Paper, at_x, at_y, values

ROW = 26
LIGHTEST, DARKEST = 0.04, 0.42


@dataclass(frozen=True)
class Cell:
    """One matrix, by its place from the left and from above."""

    column: int
    row: int
    label: str
    share: float
    """Of the largest, from 0 to 1."""


@dataclass(frozen=True)
class Matrices:
    """Cells over blocks and modules."""

    columns: tuple[str, ...]
    rows: tuple[str, ...]
    """From above."""
    cells: tuple[Cell, ...]
    """Those that were looked at; the others stay empty."""
    colour: str
    across: str


def chart(data: Matrices, width: int) -> alt.LayerChart:
    """Cells with their numbers, as far as these have room."""
    paper = Paper(
        width=width,
        height=ROW * len(data.rows),
        left=widest(data.rows, most=170 if width > 420 else 150) + 12,
        right=4,
        top=8,
        bottom=46,
    )
    size = paper.plot / max(len(data.columns), 1)
    fits = all(text_width(cell.label, 11) + 4 <= size for cell in data.cells)
    return paper.draw(_frame(data), _cells(data), *([_numbers(data)] if fits else []), *_axes(data, paper, size))


def _x(data: Matrices, field: str) -> alt.X:
    return alt.X(f"{field}:Q", scale=alt.Scale(domain=[0, len(data.columns)], nice=False), axis=None)


def _y(data: Matrices, field: str) -> alt.Y:
    return alt.Y(f"{field}:Q", scale=alt.Scale(domain=[len(data.rows), 0], nice=False), axis=None)


def _rect(data: Matrices, rows: list[dict[str, object]], fill: str) -> alt.Chart:
    rects = values(rows).mark_rect(fill=fill, stroke=LINE, strokeWidth=1)
    found: alt.Chart = rects.encode(
        x=_x(data, "left"),
        x2=alt.X2("right:Q"),
        y=_y(data, "top"),
        y2=alt.Y2("bottom:Q"),
        fillOpacity=alt.FillOpacity("opacity:Q", scale=None, legend=None),
    )
    return found


def _box(column: int, row: int, opacity: float) -> dict[str, object]:
    return {"left": column, "right": column + 1, "top": row, "bottom": row + 1, "opacity": opacity}


def _frame(data: Matrices) -> alt.Chart:
    boxes = [_box(column, row, 0.0) for column in range(len(data.columns)) for row in range(len(data.rows))]
    return _rect(data, boxes, "transparent")


def _cells(data: Matrices) -> alt.Chart:
    boxes = [_box(c.column, c.row, LIGHTEST + (DARKEST - LIGHTEST) * c.share) for c in data.cells]
    return _rect(data, boxes, data.colour)


def _numbers(data: Matrices) -> alt.Chart:
    rows = [{"x": c.column + 0.5, "y": c.row + 0.5, "text": c.label} for c in data.cells]
    text = values(rows).mark_text(align="center", baseline="middle", fontSize=11, color=INK)
    found: alt.Chart = text.encode(x=_x(data, "x"), y=_y(data, "y"), text=alt.Text("text:N"))
    return found


def _axes(data: Matrices, paper: Paper, size: float) -> list[alt.Chart]:
    every = max(1, -(-widest(data.columns) // max(int(size), 1)))
    below = [{"x": place + 0.5, "text": name} for place, name in enumerate(data.columns) if place % every == 0]
    beside = [{"y": place + 0.5, "text": name} for place, name in enumerate(data.rows)]
    names = values(below).mark_text(align="center", baseline="top", dy=7, color=MUTED)
    modules = values(beside).mark_text(align="right", baseline="middle", dx=-8, color=MUTED, limit=paper.left - 10)
    across = values([{"text": data.across}]).mark_text(align="center", baseline="top", dy=27, color=MUTED)
    text = alt.Text("text:N")
    return [
        names.encode(x=_x(data, "x"), y=at_y(paper.height), text=text),
        modules.encode(x=at_x(0), y=_y(data, "y"), text=text),
        across.encode(x=at_x(paper.plot / 2), y=at_y(paper.height), text=text),
    ]
