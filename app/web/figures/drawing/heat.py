"""A heat table: cells over two axes of names, each with its text: the larger its share, the darker."""

from __future__ import annotations

from dataclasses import dataclass

from app.web.figures.drawing import grammar as alt
from app.web.figures.drawing.theme import INK, LINE, MUTED, WIDE_FROM, frame, named_axis, values

NAMES, COLUMN_NAME = 150, 20
"""Pixels that the names of the rows take, and that of a column."""
DIGIT = 7
"""Pixels that a character of a cell's text takes; texts without room are left out."""


@dataclass(frozen=True)
class Mark:
    """A sign above a cell's text."""

    path: str
    """SVG, in the square from −1 to 1."""
    colour: str


@dataclass(frozen=True)
class Cell:
    """One cell, by its place from the left and from above."""

    column: int
    row: int
    text: str
    opacity: float
    mark: Mark | None = None
    muted: bool = False


@dataclass(frozen=True)
class Heat:
    """Cells over columns and rows; those that are missing stay empty."""

    columns: tuple[str, ...]
    rows: tuple[str, ...]
    """From above."""
    cells: tuple[Cell, ...]
    colour: str
    across: str
    row_height: int
    up: str = ""
    boundary: tuple[int, ...] = ()
    """By column, the rows above a line."""


def chart(data: Heat, width: int) -> alt.LayerChart:
    """Cells with their marks and texts, as far as these have room, and the line."""
    columns, rows = len(data.columns), len(data.rows)
    shown = range(0, columns, -(-COLUMN_NAME * columns // (width - NAMES)))
    x_axis = named_axis([data.columns[i] for i in shown], [i + 0.5 for i in shown], title=data.across, labelPadding=7)
    limit = 170 if width > WIDE_FROM else 150
    y_axis = named_axis(data.rows, [i + 0.5 for i in range(rows)], title=None, labelLimit=limit)
    x_scale, y_scale = alt.Scale(domain=[0, columns], nice=False), alt.Scale(domain=[rows, 0], nice=False)
    x, y = alt.X("x:Q", scale=x_scale), alt.Y("y:Q", scale=y_scale)
    empty = {(column, row): 0.0 for column in range(columns) for row in range(rows)}
    places = empty | {(c.column, c.row): c.opacity for c in data.cells}
    boxes = [
        {"left": column, "right": column + 1, "top": row, "bottom": row + 1, "opacity": opacity}
        for (column, row), opacity in places.items()
    ]
    inside = [
        {"x": c.column + 0.5, "y": c.row + 0.5, "text": c.text, "ink": MUTED if c.muted else INK}
        | ({"shape": c.mark.path, "colour": c.mark.colour} if c.mark else {})
        for c in data.cells
    ]
    marked = any(c.mark for c in data.cells)
    room = f"width / {columns} >= {DIGIT} * length(datum.text) + 4 ? 1 : 0"
    text = values(inside).mark_text(fontSize=11, dy=9 if marked else 0, opacity=alt.ExprRef(room))
    marks = (
        values(inside)
        .mark_point(size=64, opacity=1, strokeWidth=1.7, fill="transparent", strokeJoin="round", yOffset=-8)
        .encode(
            shape=alt.Shape("shape:N", scale=None, legend=None), stroke=alt.Stroke("colour:N", scale=None, legend=None)
        )
    )
    edge = [(column + side, height) for column, height in enumerate(data.boundary) for side in (0, 1)]
    line = values([{"order": place, "x": x, "y": y} for place, (x, y) in enumerate(edge)])
    return frame(
        values(boxes)
        .mark_rect(fill=data.colour, stroke=LINE, strokeWidth=1)
        .encode(
            x=alt.X("left:Q", scale=x_scale, axis=x_axis),
            x2=alt.X2("right:Q"),
            y=alt.Y("top:Q", scale=y_scale, axis=y_axis),
            y2=alt.Y2("bottom:Q"),
            fillOpacity=alt.FillOpacity("opacity:Q", scale=None, legend=None),
        ),
        *([marks.encode(x=x, y=y)] if marked else []),
        text.encode(x=x, y=y, text=alt.Text("text:N"), color=alt.Color("ink:N", scale=None, legend=None)),
        line.mark_line(stroke=INK, strokeWidth=3, strokeCap="square", strokeJoin="miter").encode(
            x=x, y=y, order=alt.Order("order:Q")
        ),
        width=width,
        height=data.row_height * rows,
        up=data.up,
    )
