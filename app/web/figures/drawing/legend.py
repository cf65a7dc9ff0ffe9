"""A legend inside a drawing: coloured squares with their names, in as many lines as they need. It goes along into every
file that the chart is written to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from app.web.figures.drawing import grammar as alt
from app.web.figures.drawing.labels import clipped, text_width
from app.web.figures.drawing.theme import MUTED, Paper, at_x, at_y, own_colour, values

LINE = 18
SQUARE, GAP, APART = 10, 5, 14
"""Pixels: a square's side, from it to its name, and from one name to the next square."""


class Entry(NamedTuple):
    """A colour and what it stands for."""

    colour: str
    name: str


class Place(NamedTuple):
    """Where an entry begins, from the left end of its line, and the line, from 0."""

    x: float
    line: int
    entry: Entry


def places(entries: Sequence[Entry], width: float) -> list[Place]:
    """One after the other, in lines of so many pixels; a name that is wider than a line is cut."""
    found: list[Place] = []
    x, line = 0.0, 0
    for colour, name in entries:
        short = clipped(name, width - SQUARE - GAP)
        taken = SQUARE + GAP + text_width(short)
        if x > 0 and x + taken > width:
            x, line = 0.0, line + 1
        found.append(Place(x, line, Entry(colour, short)))
        x += taken + APART
    return found


def height(found: Sequence[Place]) -> int:
    """Of the lines that they take."""
    return LINE * (1 + max((place.line for place in found), default=-1))


def layers(found: Sequence[Place], paper: Paper) -> list[alt.Chart]:
    """The squares and the names, from the upper left corner of the drawing."""
    drawn = []
    for x, line, (colour, name) in found:
        left, middle = x - paper.left, LINE * (line + 0.5) - paper.top
        square = values([{"colour": colour}]).mark_point(shape="square", size=SQUARE**2, filled=True, opacity=1)
        text = values([{"text": name}]).mark_text(align="left", baseline="middle", color=MUTED)
        drawn += [
            square.encode(x=at_x(left + SQUARE / 2), y=at_y(middle), color=own_colour()),
            text.encode(x=at_x(left + SQUARE + GAP), y=at_y(middle), text=alt.Text("text:N")),
        ]
    return drawn
