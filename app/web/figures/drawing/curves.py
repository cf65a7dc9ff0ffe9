"""Curves over training: each arm's mean over seeds (line), smallest to largest seed (band), evaluations (markers), what
was measured behind a smoothed line, and where a run failed (cross)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app.domain.runs.downsampling import bucket_starts, extremes
from app.domain.runs.smoothing import Band, Floats
from app.web.figures.drawing import grammar as alt
from app.web.figures.drawing.line_ends import line_ends, room_for
from app.web.figures.drawing.scales import Domain
from app.web.figures.drawing.theme import CROSS, MarkStyle, Paper, markers, values

BUCKETS = 160
"""Pixels: a line keeps the extremes of so many stretches, a band the smallest and the largest of each."""
MARKS = 12
"""Evaluations of an arm that are marked; of more, so many, evenly."""
WILD = 1.5
"""A value is cut off above so many times what 99.5 % of all lie below."""
Pairs = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Curve:
    """An arm, thinned for drawing."""

    style: MarkStyle
    mean: Pairs
    band: tuple[tuple[float, float, float], ...]
    """(place, smallest, largest); empty with one seed."""
    raw: Pairs = ()
    """What was measured, where `mean` is smoothed."""
    marks: Pairs = ()
    """Evaluations."""
    failed: tuple[Pairs, ...] = ()
    """Runs that failed, each to the last value that it reported."""


@dataclass(frozen=True)
class Curves:
    """What is drawn over training."""

    curves: tuple[Curve, ...]
    end: float
    """Where the axis ends."""
    across: str
    """Title of the x axis."""
    up: str
    """Title of the y axis."""
    top: float
    """Values above it are cut off."""
    least: float | None = None
    most: float | None = None
    """Ends of the scale where it has ends."""
    noisy: bool = False
    """Lines that jump from step to step are thinner."""


def line_of(x: Floats, y: Floats) -> Pairs:
    """A line for pixels: no more points than the picture can show, and every extreme."""
    at = extremes(y, BUCKETS)
    return pairs(x[at], y[at])


def band_of(found: Band) -> tuple[tuple[float, float, float], ...]:
    """A band for pixels: the smallest and the largest of each stretch."""
    starts = bucket_starts(len(found.x), 2 * BUCKETS)
    if not len(starts):
        return ()
    low, high = np.fmin.reduceat(found.low, starts), np.fmax.reduceat(found.high, starts)
    rows = [*zip(found.x[starts], low, high, strict=True), (found.x[-1], found.low[-1], found.high[-1])]
    return tuple((float(x), float(a), float(b)) for x, a, b in rows if np.isfinite(a))


def some_of(points: Pairs) -> Pairs:
    """Evenly, at most so many as are marked."""
    if len(points) <= MARKS:
        return points
    return tuple(points[i] for i in np.linspace(0, len(points) - 1, MARKS).round().astype(int))


def pairs(x: Floats, y: Floats) -> Pairs:
    """What of it is finite."""
    return tuple((float(a), float(b)) for a, b in zip(x, y, strict=True) if np.isfinite(b))


def top_of(lines: Sequence[Floats]) -> float:
    """The largest value, or where the wild ones are cut off: one batch must not flatten everything else."""
    seen = [line[np.isfinite(line)] for line in lines]
    joined = np.concatenate(seen) if seen else np.zeros(0)
    if not len(joined):
        return 1.0
    usual = float(np.quantile(joined, 0.995))
    return float(min(joined.max(), WILD * usual)) if usual > 0 else float(joined.max())


def chart(data: Curves, width: int) -> alt.LayerChart:
    """Bands, what is behind, means with each arm's colour and dash, markers, names at the ends of the lines."""
    paper = Paper(
        width=width,
        height=270 if width > 420 else 240,
        left=44,
        right=room_for([c.style for c in data.curves], width),
        top=30,
        bottom=46,
    )
    y = _domain(data)
    x = Domain.covering([0.0, data.end], ticks=5 if width > 420 else 4, air=0.0)
    x_axis = alt.X("x:Q", scale=x.scale(), axis=x.axis(title=data.across))
    y_axis = alt.Y("y:Q", scale=y.scale(), axis=y.axis(title=data.up, titleX=-42))
    return paper.draw(
        *[layer for curve in data.curves for layer in _behind(curve, y)],
        *[_line(curve, y, thin=data.noisy).encode(x=x_axis, y=y_axis) for curve in data.curves],
        *_markers(data, y),
        *line_ends([(c.style, (c.mean or c.failed[0])[-1][1]) for c in data.curves if c.mean or c.failed], y, paper),
    )


def _domain(data: Curves) -> Domain:
    seen = [v for c in data.curves for _x, v in (*c.mean, *c.marks)]
    seen += [v for c in data.curves for _x, *ends in c.band for v in ends]
    seen += [pairs[-1][1] for c in data.curves for pairs in c.failed if pairs]
    within = [min(v, data.top) for v in seen]
    return Domain.covering(
        [*within, *([data.least] if data.least is not None else [])], least=data.least, most=data.most
    )


def _cut(points: Pairs, y: Domain) -> list[dict[str, float]]:
    return [{"x": place, "y": y.within(value)} for place, value in points]


def _line(curve: Curve, y: Domain, *, thin: bool) -> alt.Chart:
    line = values(_cut(curve.mean, y))
    found: alt.Chart = line.mark_line(
        strokeWidth=1.2 if thin else 2.2, color=curve.style.colour, strokeDash=curve.style.dash
    )
    return found


def _behind(curve: Curve, y: Domain) -> list[alt.Chart]:
    """The band, what was measured behind a smoothed line, and runs that failed."""
    colour, layers = curve.style.colour, []
    if curve.band:
        rows = [{"x": x, "low": y.within(low), "high": y.within(high)} for x, low, high in curve.band]
        area = values(rows).mark_area(opacity=0.16, color=colour)
        layers.append(area.encode(x=alt.X("x:Q"), y=alt.Y("low:Q", scale=y.scale()), y2=alt.Y2("high:Q")))
    for points, opacity in ((curve.raw, 0.35), *((failed, 0.7) for failed in curve.failed)):
        if points:
            thin = values(_cut(points, y)).mark_line(strokeWidth=1, opacity=opacity, color=colour)
            layers.append(thin.encode(x=alt.X("x:Q"), y=alt.Y("y:Q")))
    return layers


def _markers(data: Curves, y: Domain) -> list[alt.Chart]:
    """Evaluations with each arm's marker; a cross where a run failed."""
    where = {"x": alt.X("x:Q"), "y": alt.Y("y:Q")}
    rows = [c.style.fields | point for c in data.curves for point in _cut(c.marks, y)]
    ends = [c.style.fields | point for c in data.curves for failed in c.failed for point in _cut(failed[-1:], y)]
    layers = markers(rows, 45, **where) if rows else []
    if ends:
        cross = values(ends).mark_point(shape=CROSS, size=110, strokeWidth=2.2, opacity=1, fill=None)
        layers.append(cross.encode(**where, stroke=alt.Stroke("colour:N", scale=None, legend=None)))
    return layers
