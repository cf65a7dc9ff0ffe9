"""Names at the right ends of lines, each with its arm's marker, moved apart where they would collide."""

from __future__ import annotations

from collections.abc import Sequence

from app.web.figures.drawing import grammar as alt
from app.web.figures.drawing.labels import clipped, spread, widest
from app.web.figures.drawing.scales import Domain
from app.web.figures.drawing.theme import NAME, MarkStyle, Paper, at_x, at_y, markers, values

ROOM = 28
"""Beside the widest name: marker and air."""


def room_for(styles: Sequence[MarkStyle], width: int) -> int:
    """The margin that the names need."""
    return widest([style.name for style in styles], NAME, bold=True, most=140 if width > 420 else 100) + ROOM


def line_ends(last: Sequence[tuple[MarkStyle, float]], y: Domain, paper: Paper) -> list[alt.Chart]:
    """From each line's style and last value."""
    wanted = [paper.height - y.pixel(y.within(value), paper.height) for _style, value in last]
    places = spread(wanted, 16, 4, paper.height - 4)
    layers = []
    for (style, _value), place in zip(last, places, strict=True):
        name = clipped(style.name, (paper.right - ROOM + 2) / 1.06, NAME)
        text = values([{"text": name}]).mark_text(
            align="left", dx=20, baseline="middle", fontWeight="bold", fontSize=NAME, color=style.colour
        )
        layers += markers([style.fields], 45, x=at_x(paper.plot + 11), y=at_y(place))
        layers.append(text.encode(x=at_x(paper.plot), y=at_y(place), text=alt.Text("text:N")))
    return layers
