"""The score over what it costs: one point an arm, whiskers for doubt, a line along the arms that no other beats."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import altair as alt

from app.domain.pareto import Better, pareto_front
from app.web.charts.labels import LINE_HEIGHT, Box, Placed, beside, text_width
from app.web.charts.scales import Domain
from app.web.charts.style import COLOUR, MUTED, NAME, SMALL, STRONG, Look, Paper, at_x, at_y, markers, values
from app.web.i18n import gettext as _

ROOM_FOR_BASE = 0.6
"""The untouched model is drawn in if the axis of scores grows by at most this share for it; else it is named."""
NAME_LIMIT = 150
"""Pixels; a longer name ends in an ellipsis."""
MOST_NOTES = 5
"""With more arms than these, names only."""


@dataclass(frozen=True)
class Point:
    """An arm. Its score in percent with its interval; cost in the axis's unit with its smallest and largest seed."""

    look: Look
    note: str
    score: float
    low: float
    high: float
    cost: float
    cost_low: float
    cost_high: float


@dataclass(frozen=True)
class Missing:
    """An arm without a result, and why: it stays in the picture, at the boundary."""

    look: Look
    why: str


@dataclass(frozen=True)
class TradeOff:
    """Arms over one cost."""

    points: tuple[Point, ...]
    missing: tuple[Missing, ...]
    untouched: float | None
    """Score of the untouched model in percent."""
    measure: str
    """Title of the axis of scores, with its unit."""
    axis: str
    """The cost and its unit."""
    comparable: bool
    """No line is drawn between costs that were measured under different conditions."""


def chart(data: TradeOff, width: int) -> alt.LayerChart:
    """Points with whiskers and names, the front, the untouched model, and arms without a result at the right edge."""
    x = Domain.covering([0.0, *(p.cost_high for p in data.points)], ticks=5, air=0.12, least=0.0)
    y, base_inside = _scores(data)
    paper = Paper(width=width, height=270 if width > 420 else 250, left=40, right=12, top=30, bottom=46)
    x_axis = alt.X("cost:Q", scale=x.scale(), axis=x.axis(title=data.axis))
    y_axis = alt.Y("score:Q", scale=y.scale(), axis=y.axis(title=data.measure, titleX=-38))
    rows = [_row(point) for point in data.points]
    front = _front(data, x)
    whiskers = values(rows).mark_rule(strokeWidth=2).encode(x=alt.X("cost:Q"), color=COLOUR)
    return paper.draw(
        values(front)
        .mark_line(interpolate="step-after", color=STRONG, strokeDash=[3, 3], strokeWidth=1.5)
        .encode(x=x_axis, y=y_axis),
        whiskers.encode(y=alt.Y("low:Q", scale=y.scale()), y2=alt.Y2("high:Q")),
        values(rows)
        .mark_rule(strokeWidth=2)
        .encode(x=alt.X("cost_low:Q", scale=x.scale()), x2=alt.X2("cost_high:Q"), y=alt.Y("score:Q"), color=COLOUR),
        *markers(rows, 120, x=alt.X("cost:Q"), y=alt.Y("score:Q")),
        *_names(data, front, x, y, paper),
        *_untouched(data, paper, inside=base_inside),
        *_missing(data, paper),
    )


def on_front(points: Sequence[Point]) -> list[bool]:
    """For each point: no other is as good and as cheap, and better in one of them."""
    return pareto_front(
        [{"score": p.score, "cost": p.cost} for p in points],
        {"score": Better.HIGHER, "cost": Better.LOWER},
    )


def _scores(data: TradeOff) -> tuple[Domain, bool]:
    seen = [v for p in data.points for v in (p.low, p.high, p.score)]
    y = Domain.covering(seen, air=0.14, least=0.0, most=100.5, at_least=6.0)
    if data.untouched is None or not seen:
        return y, False
    if data.untouched >= y.low - ROOM_FOR_BASE * (y.high - y.low):
        return Domain.covering([*seen, data.untouched], air=0.14, least=0.0, most=100.5, at_least=6.0), True
    return y, False


def _row(point: Point) -> dict[str, object]:
    return point.look.fields | {
        "score": point.score,
        "low": point.low,
        "high": point.high,
        "cost": point.cost,
        "cost_low": point.cost_low,
        "cost_high": point.cost_high,
    }


def _front(data: TradeOff, x: Domain) -> list[dict[str, object]]:
    """Corners of the front, cheapest first, drawn on to the edge."""
    if not data.comparable or len(data.points) < 2:
        return []
    best = [p for p, on in zip(data.points, on_front(data.points), strict=True) if on]
    corners = [(p.cost, p.score) for p in sorted(best, key=lambda p: p.cost)]
    return [{"cost": cost, "score": score} for cost, score in [*corners, (x.high, corners[-1][1])]]


def _names(data: TradeOff, front: list[dict[str, object]], x: Domain, y: Domain, paper: Paper) -> list[alt.Chart]:
    """Names where nothing else is. Where it is tight the notes go first, then the names, those on the front last."""

    def at(cost: float, score: float) -> tuple[float, float]:
        return x.pixel(cost, paper.plot), paper.height - y.pixel(score, paper.height)

    obstacles = []
    for p in data.points:
        (left, middle), (right, _m) = at(p.cost_low, p.score), at(p.cost_high, p.score)
        (centre, top), (_c, bottom) = at(p.cost, p.high), at(p.cost, p.low)
        obstacles += [
            Box(centre - 8, middle - 8, centre + 8, middle + 8),
            Box(left, middle - 2, right, middle + 2),
            Box(centre - 2, top, centre + 2, bottom),
        ]
    corners = [at(float(str(c["cost"])), float(str(c["score"]))) for c in front]
    for (x1, y1), (x2, y2) in pairwise(corners):
        obstacles += [Box(x1, y1 - 3, x2, y1 + 3), Box(x2 - 3, min(y1, y2), x2 + 3, max(y1, y2))]
    obstacles += [_missing_box(place, paper) for place in range(len(data.missing))]
    chosen = [p for _on, p in sorted(zip(on_front(data.points), data.points, strict=True), key=lambda one: not one[0])]
    few = len(chosen) <= MOST_NOTES
    places = beside(
        [at(p.cost, p.score) for p in chosen],
        [[(_label_width(p, lines), lines) for lines in ((2, 1) if few else (1,))] for p in chosen],
        obstacles,
        Box(0, -8, paper.plot + paper.right, paper.height),
    )
    return [layer for p, place in zip(chosen, places, strict=True) if place for layer in _label(p, place)]


def _label_width(point: Point, lines: int) -> int:
    name = min(text_width(point.look.name, NAME, bold=True), NAME_LIMIT)
    return max(name, text_width(point.note)) if lines == 2 else name


def _label(point: Point, place: Placed) -> list[alt.Chart]:
    """The arm's name, and below it what its point says; in pixels, so that no scale is shared."""
    name = values([{"text": point.look.name}]).mark_text(
        align=place.align,
        baseline="middle",
        fontWeight="bold",
        fontSize=NAME,
        limit=NAME_LIMIT,
        color=point.look.colour,
    )
    layers = [name.encode(x=at_x(place.x), y=at_y(place.y), text=alt.Text("text:N"))]
    if place.lines == 2:
        note = values([{"text": point.note}]).mark_text(align=place.align, baseline="middle", color=MUTED)
        layers.append(note.encode(x=at_x(place.x), y=at_y(place.y + LINE_HEIGHT), text=alt.Text("text:N")))
    return layers


def _untouched(data: TradeOff, paper: Paper, *, inside: bool) -> list[alt.Chart]:
    """A line at the untouched model's score, or a note where that is far below."""
    if data.untouched is None:
        return []
    if not inside:
        text = _("↓ untouched model %(value)s %%, below this scale", value=f"{data.untouched:.1f}")
        note = values([{"text": text}]).mark_text(align="right", baseline="bottom", dy=-6, color=MUTED)
        return [note.encode(x=at_x(paper.plot), y=at_y(paper.height), text=alt.Text("text:N"))]
    text = _("untouched model %(value)s %%", value=f"{data.untouched:.1f}")
    row = values([{"score": data.untouched, "text": text}])
    return [
        row.mark_rule(color="var(--m-base)", strokeDash=[2, 3]).encode(y=alt.Y("score:Q")),
        row.mark_text(align="right", baseline="bottom", dy=-4, color=MUTED).encode(
            x=at_x(paper.plot), y=alt.Y("score:Q"), text=alt.Text("text:N")
        ),
    ]


def _missing_box(place: int, paper: Paper) -> Box:
    return Box(paper.plot - 190, 4 + 20 * place, paper.plot + paper.right, 24 + 20 * place)


def _missing(data: TradeOff, paper: Paper) -> list[alt.Chart]:
    """Arms without a result, each a cross at the right edge with its name and the reason."""
    layers = []
    for place, arm in enumerate(data.missing):
        y = at_y(14 + 20 * place)
        cross = values([{"text": "✗"}]).mark_text(align="center", fontSize=14, color=arm.look.colour)
        layers.append(cross.encode(x=at_x(paper.plot), y=y, text=alt.Text("text:N")))
        text = _("%(arm)s: %(why)s", arm=arm.look.name, why=arm.why)
        label = values([{"text": text}]).mark_text(
            align="right", dx=-12, fontSize=SMALL, color=arm.look.colour, limit=paper.plot * 0.7
        )
        layers.append(label.encode(x=at_x(paper.plot), y=y, text=alt.Text("text:N")))
    return layers
