"""Curves over training: each arm's mean over seeds (line), smallest to largest seed (band), evaluations (markers), what
was measured behind a smoothed line, and where a run failed (cross)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.domain.runs.downsampling import lttb
from app.domain.runs.smoothing import Floats
from app.web.figures.drawing import grammar as alt
from app.web.figures.drawing.theme import (
    CROSS,
    WIDE_FROM,
    ArmEncodings,
    MarkStyle,
    frame,
    markers,
    number_axis,
    values,
)

POINTS = 320
"""Of a line: more than the picture can show."""
MARKS = 12
"""Evaluations of an arm that are marked; of more, so many, evenly."""
WILD = 1.5
"""A value is cut off above so many times the 99.5th percentile."""
Drawing = NDArray[np.float64]
"""Points of a line or a band, [n, 2 or 3]: x and one value, or x and two."""


@dataclass(frozen=True)
class Curve:
    """An arm, downsampled for drawing."""

    style: MarkStyle
    mean: Drawing
    band: Drawing | None = None
    """x, smallest, largest; None with one seed."""
    raw: Drawing | None = None
    """What was measured, where `mean` is smoothed."""
    marks: Drawing | None = None
    """Evaluations."""
    failed: tuple[Drawing, ...] = ()
    """Runs that failed, each to the last value that it reported."""

    @property
    def last(self) -> float:
        """The value at its end."""
        return float((self.mean if len(self.mean) else self.failed[0])[-1, 1])


@dataclass(frozen=True)
class Curves:
    """What is drawn over training."""

    curves: tuple[Curve, ...]
    end: float
    """Where the x axis ends."""
    across: str
    up: str
    top: float
    """Values above it are cut off."""
    zero: bool
    """The y axis begins at zero."""
    noisy: bool = False
    """Lines that jump from step to step are thinner."""


def drawn_line(x: Floats, *values: Floats) -> Drawing:
    """What of a line (or a band) is finite, with no more points than the picture can show."""
    kept = np.unique(np.concatenate([lttb(x, value, POINTS) for value in values]))
    points: Drawing = np.column_stack([x[kept], *(value[kept] for value in values)])
    return points[np.isfinite(points).all(axis=1)]


def some_of(x: Floats, values: Floats) -> Drawing:
    """At most so many points as are marked, evenly."""
    finite = np.flatnonzero(np.isfinite(values))
    kept = finite[np.linspace(0, len(finite) - 1, min(len(finite), MARKS)).round().astype(int)]
    points: Drawing = np.column_stack([x[kept], values[kept]])
    return points


def upper_end(lines: Sequence[Floats]) -> float:
    """The largest value, or where the wild ones are cut off: one batch must not flatten everything else."""
    joined = np.concatenate([line[np.isfinite(line)] for line in lines]) if lines else np.zeros(0)
    if not len(joined):
        return 1.0
    usual = float(np.quantile(joined, 0.995))
    return float(min(joined.max(), WILD * usual)) if usual > 0 else float(joined.max())


def chart(data: Curves, width: int) -> alt.LayerChart:
    """Bands, what is behind, means in each arm's colour and dash, and markers."""
    ordered = sorted((c for c in data.curves if len(c.mean) or c.failed), key=lambda curve: -curve.last)
    arms = ArmEncodings([curve.style for curve in ordered], width)
    x = alt.X("x:Q", scale=alt.Scale(domain=[0, data.end], nice=False), axis=number_axis(data.across))
    y_scale = alt.Scale(zero=data.zero, domainMax=_highest(data), clamp=True, nice=data.zero)
    y = alt.Y("y:Q", scale=y_scale, axis=number_axis())
    lines = [row for curve in data.curves for row in _rows({"arm": curve.style.name}, curve.mean)]
    stroke = 1.2 if data.noisy else 2.2
    return frame(
        *(layer for curve in data.curves for layer in _behind(curve, x, y_scale)),
        values(lines).mark_line(strokeWidth=stroke).encode(x=x, y=y, **arms.lines),
        arms.key,
        *_marks(data, x, y),
        width=width,
        height=240 if width > WIDE_FROM else 210,
        up=data.up,
    )


def _highest(data: Curves) -> float:
    """The largest value that is drawn, and a little air."""
    drawn = [points for c in data.curves for points in (c.mean, c.band, c.marks) if points is not None and len(points)]
    ends = [float(points[:, 1:].max()) for points in drawn]
    ends += [float(failed[-1, 1]) for c in data.curves for failed in c.failed if len(failed)]
    most = max(ends, default=1.0)
    return 1.04 * min(most, data.top) if data.top > 0 else most


def _rows(fields: Mapping[str, object], points: Drawing | None) -> list[dict[str, object]]:
    return [{**fields, "x": x, "y": y} for x, y in points.tolist()] if points is not None else []


def _behind(curve: Curve, x: alt.X, y_scale: alt.Scale) -> list[alt.Chart]:
    """The band, what was measured behind a smoothed line, and runs that failed."""
    colour, layers = curve.style.colour, []
    if curve.band is not None and len(curve.band):
        rows = [{"x": at, "low": low, "high": high} for at, low, high in curve.band.tolist()]
        area = values(rows).mark_area(opacity=0.16, color=colour)
        layers.append(area.encode(x=x, y=alt.Y("low:Q", scale=y_scale), y2=alt.Y2("high:Q")))
    for points, opacity in ((curve.raw, 0.35), *((failed, 0.7) for failed in curve.failed)):
        if points is not None:
            thin = values([{"x": at, "y": value} for at, value in points.tolist()])
            line = thin.mark_line(strokeWidth=1, opacity=opacity, color=colour)
            layers.append(line.encode(x=x, y=alt.Y("y:Q", scale=y_scale)))
    return layers


def _marks(data: Curves, x: alt.X, y: alt.Y) -> list[alt.Chart]:
    """Evaluations with each arm's marker; a cross where a run failed."""
    rows = [row for curve in data.curves for row in _rows(curve.style.fields, curve.marks)]
    ends = [row for curve in data.curves for failed in curve.failed for row in _rows(curve.style.fields, failed[-1:])]
    layers = [markers(rows, 45, x=x, y=y)] if rows else []
    if ends:
        cross = values(ends).mark_point(shape=CROSS, size=110, strokeWidth=2.2, opacity=1, fill=None)
        layers.append(cross.encode(x=x, y=y, stroke=alt.Stroke("colour:N", scale=None, legend=None)))
    return layers
