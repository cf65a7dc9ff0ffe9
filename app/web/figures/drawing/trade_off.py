"""Arms over two axes: one point an arm, whiskers for uncertainty, a stepped line along the Pareto front.

The labels are placed in pixels, so the plot has a fixed size and both scales are known here; Vega marks the axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from app.web.figures.drawing import grammar as alt
from app.web.figures.drawing.placement import LINE_HEIGHT, Box, Placed, beside, clipped, text_width
from app.web.figures.drawing.references import Reference, across, near
from app.web.figures.drawing.scales import Domain, Reach, Side
from app.web.figures.drawing.theme import (
    CROSS,
    MUTED,
    NAME,
    SMALL,
    STRONG,
    WIDE_FROM,
    MarkStyle,
    at_x,
    at_y,
    halo,
    markers,
    number_axis,
    own_colour,
    values,
)
from app.words.format import decimal
from app.words.i18n import gettext as _

LEFT, RIGHT, TOP, BOTTOM = 46, 12, 30, 46
"""Margins of the plot, in pixels."""
ROOM_FOR_BASE = 0.6
"""The base model is drawn in if the axis grows by at most this share for it; else it is named."""
NAME_LIMIT = 150
"""Pixels; a longer name ends in an ellipsis."""
MOST_NOTES = 5
"""With more arms than these, names only."""
ROW = 20
"""Height of a line for an arm without a value."""


@dataclass(frozen=True)
class Point:
    """An arm. Without a name in its style it has no label."""

    style: MarkStyle
    note: str
    x: Reach
    y: Reach


@dataclass(frozen=True)
class Missing:
    """An arm without a value on both axes, and why: it stays in the picture, at the edge."""

    style: MarkStyle
    why: str


@dataclass(frozen=True)
class TradeOff:
    points: tuple[Point, ...]
    missing: tuple[Missing, ...]
    front: tuple[int, ...]
    """Places of the Pareto-optimal points; none where values cannot be compared."""
    x: Side
    y: Side
    base: float | None = None
    """The base model on the y axis, where it has a value there."""
    lines: tuple[Reference, ...] = ()
    """Baselines on the y axis."""


@dataclass(frozen=True)
class Plot:
    """Where things stand: the plot, both scales, and the strip above the points for arms without a value."""

    width: int
    height: int
    x: Domain
    y: Domain
    strip: int

    def at(self, x: float, y: float) -> tuple[float, float]:
        """In pixels from the plot's top left."""
        return self.x.share(x) * self.width, self.height - self.y.share(y) * (self.height - self.strip)

    @property
    def y_scale(self) -> alt.Scale:
        """Up to the strip."""
        return self.y.scale(range=[self.height, self.strip])


def chart(data: TradeOff, width: int) -> alt.LayerChart:
    """Points with whiskers and names, the front, the base model, and arms without a value at the edge."""
    strip = ROW * len(data.missing) + (6 if data.missing else 0)
    y, base_inside = _y(data)
    lines = [line for line in near(data.lines, y.low, y.high) if y.low <= line.value <= y.high]
    plot = Plot(
        width=width - LEFT - RIGHT,
        height=(270 if width > WIDE_FROM else 250) + strip,
        x=Domain.of(data.x, [p.x for p in data.points]),
        y=y,
        strip=strip,
    )
    corners = _front(data, plot)
    labels = _labels(data, corners, plot)
    front = values(corners).mark_line(interpolate="linear", color=STRONG, strokeDash=[3, 3], strokeWidth=1.5)
    x_axis = alt.X("x:Q", scale=plot.x.scale(), axis=number_axis(data.x.title))
    y_axis = alt.Y("y:Q", scale=plot.y_scale, axis=number_axis(None))
    rows = [_row(point) for point in data.points]
    return alt.LayerChart(
        layer=[
            *across(lines, plot.y_scale, plot.height / (y.high - y.low)),
            front.encode(x=x_axis, y=y_axis, order=alt.Order("place:Q")),
            *_whiskers(rows, plot),
            *(_leader(p, place, plot) for p, place in labels if place.far),
            markers(rows, 120, x=alt.X("x:Q"), y=alt.Y("y:Q")),
            *(layer for p, place in labels for layer in _label(p, place)),
            *_base(data, plot, inside=base_inside),
            *_missing(data, plot),
        ],
        title=alt.TitleParams(data.y.title, frame="group", dx=2 - LEFT),
        width=plot.width,
        height=plot.height,
        padding={"left": LEFT, "right": RIGHT, "top": TOP, "bottom": BOTTOM},
        autosize="none",
    )


def _y(data: TradeOff) -> tuple[Domain, bool]:
    """The y axis, and whether the base model is on it; baselines for which it has to grow little are."""
    reaches = [p.y for p in data.points]
    if reaches and data.lines:
        alone = Domain.of(data.y, reaches)
        reaches += [Reach(line.value, line.value, line.value) for line in near(data.lines, alone.low, alone.high)]
    y, base = Domain.of(data.y, reaches), data.base
    if base is None or not reaches or y.log:
        return y, False
    room = ROOM_FOR_BASE * (y.high - y.low)
    if y.low - room <= base <= y.high + room:
        return Domain.of(data.y, [*reaches, Reach(base, base, base)]), True
    return y, False


def _row(point: Point) -> dict[str, object]:
    x = {"x": point.x.at, "x_low": point.x.low, "x_high": point.x.high}
    y = {"y": point.y.at, "y_low": point.y.low, "y_high": point.y.high}
    return point.style.fields | x | y


def _whiskers(rows: Sequence[dict[str, object]], plot: Plot) -> list[alt.Chart]:
    rule = values(rows).mark_rule(strokeWidth=2)
    up = alt.Y("y_low:Q", scale=plot.y_scale)
    across = alt.X("x_low:Q", scale=plot.x.scale())
    return [
        rule.encode(x=alt.X("x:Q"), y=up, y2=alt.Y2("y_high:Q"), color=own_colour()),
        rule.encode(x=across, x2=alt.X2("x_high:Q"), y=alt.Y("y:Q"), color=own_colour()),
    ]


def _front(data: TradeOff, plot: Plot) -> list[dict[str, object]]:
    """Corners of the front from the best to the worst on the x axis, drawn on to the edge."""
    if not data.front or len(data.points) < 2:
        return []
    best = sorted((data.points[i] for i in data.front), key=lambda p: p.x.at, reverse=data.x.higher)
    corners = [(best[0].x.at, best[0].y.at)]
    for before, after in pairwise(best):
        corners += [(after.x.at, before.y.at), (after.x.at, after.y.at)]
    corners.append((plot.x.low if data.x.higher else plot.x.high, best[-1].y.at))
    return [{"place": place, "x": x, "y": y} for place, (x, y) in enumerate(corners)]


def _labels(data: TradeOff, corners: list[dict[str, object]], plot: Plot) -> list[tuple[Point, Placed]]:
    """Names where nothing else is. Where it is tight the notes go first, then the names, those on the front last."""
    obstacles = [box for point in data.points for box in _boxes(point, plot)]
    for (x1, y1), (x2, y2) in pairwise(plot.at(float(str(c["x"])), float(str(c["y"]))) for c in corners):
        obstacles.append(Box(min(x1, x2) - 3, min(y1, y2) - 3, max(x1, x2) + 3, max(y1, y2) + 3))
    if data.missing:
        obstacles.append(Box(0, 0, plot.width, plot.strip))
    named = sorted(enumerate(data.points), key=lambda entry: entry[0] not in data.front)
    points = [point for _place, point in named if point.style.name]
    sizes = (2, 1) if len(points) <= MOST_NOTES else (1,)
    places = beside(
        [plot.at(p.x.at, p.y.at) for p in points],
        [[(_label_width(p, lines), lines) for lines in sizes] for p in points],
        obstacles,
        Box(0, -8, plot.width + RIGHT, plot.height),
    )
    return [(point, place) for point, place in zip(points, places, strict=True) if place]


def _boxes(point: Point, plot: Plot) -> list[Box]:
    """What a point covers: its marker and its whiskers."""
    (left, middle), (right, _m) = plot.at(point.x.low, point.y.at), plot.at(point.x.high, point.y.at)
    (centre, top), (_c, bottom) = plot.at(point.x.at, point.y.high), plot.at(point.x.at, point.y.low)
    return [
        Box(centre - 8, middle - 8, centre + 8, middle + 8),
        Box(left, middle - 2, right, middle + 2),
        Box(centre - 2, top, centre + 2, bottom),
    ]


def _label_width(point: Point, lines: int) -> int:
    name = min(text_width(point.style.name, NAME, bold=True), NAME_LIMIT)
    return max(name, text_width(point.note)) if lines == 2 else name


def _leader(point: Point, place: Placed, plot: Plot) -> alt.Chart:
    """A line from a name that stands far from its point."""
    x, y = plot.at(point.x.at, point.y.at)
    near = place.y + LINE_HEIGHT * (place.lines - 0.5) if place.y < y else place.y - LINE_HEIGHT / 2
    line = values([{}]).mark_rule(strokeWidth=1, opacity=0.6, color=point.style.colour)
    leader: alt.Chart = line.encode(
        x=at_x(place.x),
        y=at_y(near),
        x2=alt.X2Value(x),  # type: ignore[no-untyped-call]
        y2=alt.Y2Value(y),  # type: ignore[no-untyped-call]
    )
    return leader


def _label(point: Point, place: Placed) -> list[alt.Chart]:
    """The arm's name, below it what its point says; in pixels, so that no scale is shared."""
    text: dict[str, Any] = {"align": place.align, "baseline": "middle"}
    bold = {"fontWeight": "bold", "fontSize": NAME, "limit": NAME_LIMIT, "color": point.style.colour}
    lines: list[tuple[str, dict[str, Any]]] = [(point.style.name, bold), (point.note, {"color": MUTED})]
    layers = []
    for number, (words, look) in enumerate(lines[: place.lines]):
        where = {"x": at_x(place.x), "y": at_y(place.y + number * LINE_HEIGHT), "text": alt.Text("text:N")}
        layers += halo(values([{"text": words}]), where, **text, **look)
    return layers


def _base(data: TradeOff, plot: Plot, *, inside: bool) -> list[alt.Chart]:
    """A line at the base model's value, or a note where that is far away."""
    if data.base is None:
        return []
    value = decimal(data.base)
    if not inside:
        below = data.base < plot.y.low
        text = _("↓ base model %(value)s, below this scale") if below else _("↑ base model %(value)s, above this scale")
        note = values([{"text": text % {"value": value}}])
        mark = note.mark_text(align="right", baseline="bottom" if below else "top", dy=-6 if below else 6, color=MUTED)
        edge = at_y(plot.height if below else plot.strip)
        return [mark.encode(x=at_x(plot.width), y=edge, text=alt.Text("text:N"))]
    row = values([{"y": data.base, "text": _("base model %(value)s", value=value)}])
    y = alt.Y("y:Q", scale=plot.y_scale)
    text_mark = row.mark_text(align="right", baseline="bottom", dy=-4, color=MUTED)
    return [
        row.mark_rule(color="var(--m-base)", strokeDash=[2, 3]).encode(y=y),
        text_mark.encode(x=at_x(plot.width), y=y, text=alt.Text("text:N")),
    ]


def _missing(data: TradeOff, plot: Plot) -> list[alt.Chart]:
    """Arms without a value: their markers, crossed out, at the worse end of the x axis, each with its reason."""
    if not data.missing:
        return []
    left = data.x.higher
    edge = at_x(8 if left else plot.width - 8)
    strip_end = alt.Y2Value(plot.strip)  # type: ignore[no-untyped-call]
    layers = [values([{}]).mark_rule(color=STRONG, strokeDash=[2, 2]).encode(x=edge, y=at_y(0), y2=strip_end)]
    for place, arm in enumerate(data.missing):
        y, colour = at_y(ROW * place + ROW / 2), arm.style.colour
        cross = values([{}]).mark_point(shape=CROSS, size=150, strokeWidth=1.5, opacity=1, fill=None, stroke=colour)
        name = clipped(arm.style.name, plot.width - 40 - text_width(f": {arm.why}", SMALL), SMALL)
        label = values([{"text": _("%(arm)s: %(why)s", arm=name, why=arm.why)}]).mark_text(
            align="left" if left else "right", dx=14 if left else -14, fontSize=SMALL, color=colour
        )
        layers += [
            markers([arm.style.fields], 70, x=edge, y=y),
            cross.encode(x=edge, y=y),
            label.encode(x=edge, y=y, text=alt.Text("text:N")),
        ]
    return layers
