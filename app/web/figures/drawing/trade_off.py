"""Arms over two axes: one point an arm, whiskers for doubt, a stepped line along the arms that no other beats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from app.web.figures.drawing import grammar as alt
from app.web.figures.drawing.labels import LINE_HEIGHT, Box, Placed, beside, clipped, text_width
from app.web.figures.drawing.scales import Domain
from app.web.figures.drawing.theme import (
    CROSS,
    MUTED,
    NAME,
    SMALL,
    STRONG,
    SURFACE,
    MarkStyle,
    Paper,
    at_x,
    at_y,
    markers,
    own_colour,
    to_x,
    to_y,
    values,
)
from app.web.i18n import gettext as _

ROOM_FOR_BASE = 0.6
"""The untouched model is drawn in if the axis grows by at most this share for it; else it is named."""
NAME_LIMIT = 150
"""Pixels; a longer name ends in an ellipsis."""
MOST_NOTES = 5
"""With more arms than these, names only."""
ROW = 20
"""Height of a line for an arm without a value."""


@dataclass(frozen=True)
class Reach:
    """A value with the ends of its whisker, in the axis's unit."""

    at: float
    low: float
    high: float


@dataclass(frozen=True)
class Point:
    """An arm."""

    style: MarkStyle
    note: str
    x: Reach
    y: Reach


@dataclass(frozen=True)
class Missing:
    """An arm without a value on both axes, and why: it stays in the picture, at the boundary."""

    style: MarkStyle
    why: str


@dataclass(frozen=True)
class Side:
    """An axis."""

    title: str
    higher: bool
    """Which way is better."""
    zero: bool
    """The scale begins at zero, unless it is logarithmic."""
    log: bool = False
    least: float | None = None
    most: float | None = None
    span: float = 0.0
    """The least that the axis spans."""


@dataclass(frozen=True)
class TradeOff:
    """Arms over two axes."""

    points: tuple[Point, ...]
    missing: tuple[Missing, ...]
    front: tuple[int, ...]
    """Places of the points that no other beats; none where values do not compare."""
    x: Side
    y: Side
    untouched: float | None = None
    """The untouched model on the y axis, where it has a value there."""


@dataclass(frozen=True)
class Frame:
    """Where things stand: the paper, both scales, and the strip above the points for arms without a value."""

    paper: Paper
    x: Domain
    y: Domain
    strip: int

    def at(self, x: float, y: float) -> tuple[float, float]:
        """In pixels from the plot's top left."""
        below = self.paper.height - self.strip
        return self.x.pixel(x, self.paper.plot), self.paper.height - self.y.pixel(y, below)

    @property
    def y_scale(self) -> alt.Scale:
        """Up to the strip."""
        return self.y.scale(range=[self.paper.height, self.strip])


def chart(data: TradeOff, width: int) -> alt.LayerChart:
    """Points with whiskers and names, the front, the untouched model, and arms without a value at the boundary."""
    strip = ROW * len(data.missing) + (6 if data.missing else 0)
    height = (270 if width > 420 else 250) + strip
    paper = Paper(width=width, height=height, left=44, right=12, top=30, bottom=46)
    y, base_inside = _y(data)
    frame = Frame(paper, domain(data.x, [p.x for p in data.points]), y, strip)
    x_axis = alt.X("x:Q", scale=frame.x.scale(), axis=frame.x.axis(title=data.x.title))
    y_axis = alt.Y("y:Q", scale=frame.y_scale, axis=frame.y.axis(title=data.y.title, titleX=-42))
    rows = [_row(point) for point in data.points]
    corners = _front(data, frame)
    named = _names(data, corners, frame)
    line = values(corners).mark_line(interpolate="linear", color=STRONG, strokeDash=[3, 3], strokeWidth=1.5)
    whiskers = values(rows).mark_rule(strokeWidth=2)
    return paper.draw(
        line.encode(x=x_axis, y=y_axis, order=alt.Order("place:Q")),
        whiskers.encode(
            x=alt.X("x:Q"), y=alt.Y("y_low:Q", scale=frame.y_scale), y2=alt.Y2("y_high:Q"), color=own_colour()
        ),
        whiskers.encode(
            x=alt.X("x_low:Q", scale=frame.x.scale()), x2=alt.X2("x_high:Q"), y=alt.Y("y:Q"), color=own_colour()
        ),
        *(_leader(p, place, frame) for p, place in named if place.far),
        *markers(rows, 120, x=alt.X("x:Q"), y=alt.Y("y:Q")),
        *(layer for p, place in named for layer in _label(p, place)),
        *_untouched(data, frame, inside=base_inside),
        *_missing(data, frame),
    )


def domain(side: Side, reaches: Sequence[Reach], ticks: int = 5) -> Domain:
    """Logarithmic where the values lie far apart; else from zero, where nothing lies below it."""
    ends = [end for reach in reaches for end in (reach.low, reach.at, reach.high)]
    if side.log and reaches:
        return Domain.logarithmic(ends)
    least = 0.0 if side.zero else side.least
    seen = [*ends, 0.0] if side.zero else ends
    return Domain.covering(seen, ticks=ticks, air=0.13, least=least, most=side.most, at_least=side.span)


def _y(data: TradeOff) -> tuple[Domain, bool]:
    """The y axis, and whether the untouched model is on it."""
    reaches = [p.y for p in data.points]
    y = domain(data.y, reaches)
    base = data.untouched
    if base is None or not reaches or y.log:
        return y, False
    room = ROOM_FOR_BASE * (y.high - y.low)
    if y.low - room <= base <= y.high + room:
        return domain(data.y, [*reaches, Reach(base, base, base)]), True
    return y, False


def _row(point: Point) -> dict[str, object]:
    return point.style.fields | {
        "x": point.x.at,
        "x_low": point.x.low,
        "x_high": point.x.high,
        "y": point.y.at,
        "y_low": point.y.low,
        "y_high": point.y.high,
    }


def _front(data: TradeOff, frame: Frame) -> list[dict[str, object]]:
    """Corners of the front from the best to the worst on the x axis, drawn on to the edge."""
    if not data.front or len(data.points) < 2:
        return []
    best = sorted((data.points[i] for i in data.front), key=lambda p: p.x.at, reverse=data.x.higher)
    corners = [(best[0].x.at, best[0].y.at)]
    for before, after in pairwise(best):
        corners += [(after.x.at, before.y.at), (after.x.at, after.y.at)]
    corners.append((frame.x.low if data.x.higher else frame.x.high, best[-1].y.at))
    return [{"place": place, "x": x, "y": y} for place, (x, y) in enumerate(corners)]


def _names(data: TradeOff, corners: list[dict[str, object]], frame: Frame) -> list[tuple[Point, Placed]]:
    """Names where nothing else is. Where it is tight the notes go first, then the names, those on the front last."""
    obstacles = []
    for p in data.points:
        (left, middle), (right, _m) = frame.at(p.x.low, p.y.at), frame.at(p.x.high, p.y.at)
        (centre, top), (_c, bottom) = frame.at(p.x.at, p.y.high), frame.at(p.x.at, p.y.low)
        obstacles += [
            Box(centre - 8, middle - 8, centre + 8, middle + 8),
            Box(left, middle - 2, right, middle + 2),
            Box(centre - 2, top, centre + 2, bottom),
        ]
    for (x1, y1), (x2, y2) in pairwise(frame.at(float(str(c["x"])), float(str(c["y"]))) for c in corners):
        obstacles.append(Box(min(x1, x2) - 3, min(y1, y2) - 3, max(x1, x2) + 3, max(y1, y2) + 3))
    if data.missing:
        obstacles.append(Box(0, 0, frame.paper.plot, frame.strip))
    chosen = sorted(enumerate(data.points), key=lambda one: one[0] not in data.front)
    few = len(chosen) <= MOST_NOTES
    places = beside(
        [frame.at(p.x.at, p.y.at) for _i, p in chosen],
        [[(_label_width(p, lines), lines) for lines in ((2, 1) if few else (1,))] for _i, p in chosen],
        obstacles,
        Box(0, -8, frame.paper.plot + frame.paper.right, frame.paper.height),
    )
    return [(p, place) for (_i, p), place in zip(chosen, places, strict=True) if place]


def _label_width(point: Point, lines: int) -> int:
    name = min(text_width(point.style.name, NAME, bold=True), NAME_LIMIT)
    return max(name, text_width(point.note)) if lines == 2 else name


def _leader(point: Point, place: Placed, frame: Frame) -> alt.Chart:
    """A line from a name that stands far from its point."""
    x, y = frame.at(point.x.at, point.y.at)
    near = place.y + LINE_HEIGHT * (place.lines - 0.5) if place.y < y else place.y - LINE_HEIGHT / 2
    line = values([{}]).mark_rule(strokeWidth=1, opacity=0.6, color=point.style.colour)
    found: alt.Chart = line.encode(x=at_x(place.x), y=at_y(near), x2=to_x(x), y2=to_y(y))
    return found


def _label(point: Point, place: Placed) -> list[alt.Chart]:
    """The arm's name over a halo, below it what its point says; in pixels, so that no scale is shared."""
    layers = []
    for stroke in (SURFACE, "transparent"):
        halo: dict[str, Any] = {"stroke": stroke, "strokeWidth": 4, "strokeJoin": "round"}
        name = values([{"text": point.style.name}]).mark_text(
            align=place.align,
            baseline="middle",
            fontWeight="bold",
            fontSize=NAME,
            limit=NAME_LIMIT,
            color=point.style.colour,
            **halo,
        )
        layers.append(name.encode(x=at_x(place.x), y=at_y(place.y), text=alt.Text("text:N")))
        if place.lines == 2:
            note = values([{"text": point.note}])
            below = note.mark_text(align=place.align, baseline="middle", color=MUTED, **halo)
            layers.append(below.encode(x=at_x(place.x), y=at_y(place.y + LINE_HEIGHT), text=alt.Text("text:N")))
    return layers


def _untouched(data: TradeOff, frame: Frame, *, inside: bool) -> list[alt.Chart]:
    """A line at the untouched model's value, or a note where that is far away."""
    if data.untouched is None:
        return []
    paper, value = frame.paper, f"{data.untouched:.1f}"
    if not inside:
        below = data.untouched < frame.y.low
        text = _("↓ untouched model %(value)s, below this scale") if below else _("↑ untouched model %(value)s, above")
        note = values([{"text": text % {"value": value}}])
        mark = note.mark_text(align="right", baseline="bottom" if below else "top", dy=-6 if below else 6, color=MUTED)
        at = at_y(paper.height if below else frame.strip)
        return [mark.encode(x=at_x(paper.plot), y=at, text=alt.Text("text:N"))]
    row = values([{"y": data.untouched, "text": _("untouched model %(value)s", value=value)}])
    y = alt.Y("y:Q", scale=frame.y_scale)
    return [
        row.mark_rule(color="var(--m-base)", strokeDash=[2, 3]).encode(y=y),
        row.mark_text(align="right", baseline="bottom", dy=-4, color=MUTED).encode(
            x=at_x(paper.plot), y=y, text=alt.Text("text:N")
        ),
    ]


def _missing(data: TradeOff, frame: Frame) -> list[alt.Chart]:
    """Arms without a value: their markers, crossed out, at the worse end of the x axis, each with its reason."""
    if not data.missing:
        return []
    paper, left = frame.paper, data.x.higher
    edge = at_x(8 if left else paper.plot - 8)
    boundary = values([{}]).mark_rule(color=STRONG, strokeDash=[2, 2])
    layers = [boundary.encode(x=edge, y=at_y(0), y2=to_y(frame.strip))]
    for place, arm in enumerate(data.missing):
        y, colour = at_y(ROW * place + ROW / 2), arm.style.colour
        cross = values([{}]).mark_point(shape=CROSS, size=150, strokeWidth=1.5, opacity=1, fill=None, stroke=colour)
        name = clipped(arm.style.name, paper.plot - 40 - text_width(f": {arm.why}", SMALL), SMALL)
        text = _("%(arm)s: %(why)s", arm=name, why=arm.why)
        label = values([{"text": text}]).mark_text(
            align="left" if left else "right",
            dx=14 if left else -14,
            fontSize=SMALL,
            color=colour,
        )
        layers += markers([arm.style.fields], 70, x=edge, y=y)
        layers += [cross.encode(x=edge, y=y), label.encode(x=edge, y=y, text=alt.Text("text:N"))]
    return layers
