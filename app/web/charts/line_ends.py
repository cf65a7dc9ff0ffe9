"""Names at the right ends of lines, each with its arm's marker, moved apart where they would collide."""

from __future__ import annotations

from collections.abc import Sequence

from app.web.charts import grammar as alt
from app.web.charts.labels import clipped, spread, widest
from app.web.charts.scales import Domain
from app.web.charts.style import NAME, Look, Paper, at_x, at_y, markers, values

ROOM = 28
"""Beside the widest name: marker and air."""


def room_for(looks: Sequence[Look], width: int) -> int:
    """The margin that the names need."""
    return widest([look.name for look in looks], NAME, bold=True, most=140 if width > 420 else 100) + ROOM


def line_ends(last: Sequence[tuple[Look, float]], y: Domain, paper: Paper) -> list[alt.Chart]:
    """From each line's look and last value."""
    wanted = [paper.height - y.pixel(y.within(value), paper.height) for _look, value in last]
    places = spread(wanted, 16, 4, paper.height - 4)
    layers = []
    for (look, _value), place in zip(last, places, strict=True):
        name = clipped(look.name, (paper.right - ROOM + 2) / 1.06, NAME)
        text = values([{"text": name}]).mark_text(
            align="left", dx=20, baseline="middle", fontWeight="bold", fontSize=NAME, color=look.colour
        )
        layers += markers([look.fields], 45, x=at_x(paper.plot + 11), y=at_y(place))
        layers.append(text.encode(x=at_x(paper.plot), y=at_y(place), text=alt.Text("text:N")))
    return layers
