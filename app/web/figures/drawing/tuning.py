"""What each learning rate that was tried reached on the validation split: a line an arm, over a logarithmic axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.web.figures.drawing import grammar as alt
from app.web.figures.drawing.labels import spread, widest
from app.web.figures.drawing.scales import Domain
from app.web.figures.drawing.theme import INK, NAME, MarkStyle, Paper, at_x, at_y, markers, values

Position = Mapping[str, Any]
"""Encodings of x and y."""


@dataclass(frozen=True)
class RateLine:
    """An arm's rates, smallest first, with what they reached."""

    style: MarkStyle
    points: tuple[tuple[float, float], ...]
    chosen: float | None


@dataclass(frozen=True)
class RateLines:
    """All arms that have a rate with a result."""

    lines: tuple[RateLine, ...]
    y: str
    """Title of the y axis."""
    x: str
    most: float | None
    """Where the scale ends, if it ends."""


def chart(data: RateLines, width: int) -> alt.LayerChart:
    """Lines through each arm's rates, its marker at each, a ring around the chosen one, names at the right."""
    names = [line.style.name for line in data.lines]
    paper = Paper(
        width=width,
        height=270 if width > 420 else 240,
        left=44,
        right=widest(names, NAME, bold=True, most=130 if width > 420 else 96) + 16,
        top=30,
        bottom=46,
    )
    seen = [point for line in data.lines for point in line.points]
    x = Domain.logarithmic([rate for rate, _value in seen])
    y = Domain.covering([value for _rate, value in seen], most=data.most, at_least=1e-3)
    position = {
        "x": alt.X("rate:Q", scale=x.scale(), axis=alt.Axis(values=x.ticks, format=".0e", title=data.x)),
        "y": alt.Y("value:Q", scale=y.scale(), axis=y.axis(title=data.y, titleX=-42)),
    }
    rows = [line.style.fields | {"rate": rate, "value": v} for line in data.lines for rate, v in line.points]
    return paper.draw(
        *[_line(line, position) for line in data.lines],
        *_rings(data.lines, position),
        *markers(rows, 70, **position),
        *_names(data.lines, y, paper),
    )


def _line(line: RateLine, position: Position) -> alt.Chart:
    rows = [{"rate": rate, "value": value} for rate, value in line.points]
    drawn = values(rows).mark_line(strokeWidth=1.6, color=line.style.colour, strokeDash=line.style.dash)
    found: alt.Chart = drawn.encode(**position)
    return found


def _rings(lines: Sequence[RateLine], position: Position) -> list[alt.Chart]:
    rows = [{"rate": r, "value": v} for line in lines for r, v in line.points if r == line.chosen]
    if not rows:
        return []
    return [
        values(rows).mark_point(shape="circle", size=340, strokeWidth=1.6, color=INK, filled=False).encode(**position)
    ]


def _names(lines: Sequence[RateLine], y: Domain, paper: Paper) -> list[alt.Chart]:
    """At the right edge, at the height of the last point, moved apart where they would collide."""
    wanted = [paper.height - y.pixel(line.points[-1][1], paper.height) for line in lines]
    layers = []
    for line, place in zip(lines, spread(wanted, 16, 4, paper.height - 4), strict=True):
        text = values([{"text": line.style.name}]).mark_text(
            align="left", dx=10, fontWeight="bold", fontSize=NAME, limit=paper.right - 12, color=line.style.colour
        )
        layers.append(text.encode(x=at_x(paper.plot), y=at_y(place), text=alt.Text("text:N")))
    return layers
