"""Curves over training: each arm's mean over seeds (line), smallest to largest seed (band), evaluations (markers), what
was measured behind a smoothed line, and where a run failed (cross). Of a single run also its current step, a limit, and
values beside evaluations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.domain.runs.curves.downsampling import lttb
from app.domain.runs.curves.smoothing import Floats
from app.web.figures.drawing import grammar as alt
from app.web.figures.drawing.references import Reference, across
from app.web.figures.drawing.theme import (
    CROSS,
    INK,
    MUTED,
    STRONG,
    WIDE_FROM,
    ArmEncodings,
    MarkStyle,
    at_x,
    at_y,
    frame,
    halo,
    markers,
    number_axis,
    side,
    values,
)
from app.words.i18n import gettext as _

POINTS = 320
"""Points of a line: more than the picture can show."""
MARKS = 12
"""Evaluations of an arm that are marked; of more, so many, evenly."""
WILD = 1.5
"""A value is cut off above so many times the 99.5th percentile."""
OUTLIER = 1.4
"""What was measured behind a smoothed line is cut off above so many times the largest value of the lines."""
AIR, AIR_FOR_TEXT = 1.04, 1.14
"""Where the y axis ends, of the largest value; where text stands above a value."""
LABELS_APART = 0.3, 0.5
"""Shares of the axis, in a wide and in a narrow drawing, that two labelled evaluations lie apart at least."""
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
        return float((self.mean if len(self.mean) else self.failed[0])[-1, 1])


@dataclass(frozen=True)
class Label:
    x: float
    y: float
    text: str
    kept: bool
    """It belongs to the checkpoint that was kept, and is labelled before the others."""


@dataclass(frozen=True)
class Curves:
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
    now: int | None = None
    """The current step of a run."""
    limit: tuple[float, str] | None = None
    """A value that matters, and its name."""
    labels: tuple[Label, ...] = ()
    lines: tuple[Reference, ...] = ()
    """Baselines near the curves, in the unit of the y axis."""


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
    stroke, height = 1.2 if data.noisy else 2.2, 240 if width > WIDE_FROM else 210
    return frame(
        *(layer for curve in data.curves for layer in _behind(curve, x, y_scale)),
        *across(data.lines, y_scale, height / _extent(data)),
        values(lines).mark_line(strokeWidth=stroke).encode(x=x, y=y, **arms.lines),
        arms.key,
        *_now(data, x),
        *_limit(data, y),
        *_marks(data, x, y),
        *(layer for label in _labelled(data, LABELS_APART[width <= WIDE_FROM]) for layer in _label(label, data, x, y)),
        width=width,
        height=height,
        up=data.up,
    )


def _highest(data: Curves) -> float:
    drawn = [points for c in data.curves for points in (c.mean, c.band, c.marks) if points is not None and len(points)]
    ends = [float(points[:, 1:].max()) for points in drawn]
    ends += [float(failed[-1, 1]) for c in data.curves for failed in c.failed if len(failed)]
    ends += [line.value for line in data.lines]
    most = max(ends, default=1.0)
    most = min(most, data.top) if data.top > 0 else most
    measured = [c.raw[c.raw[:, 1] <= OUTLIER * most, 1] for c in data.curves if c.raw is not None]
    most = max([most, *(float(values.max()) for values in measured if len(values))])
    return (
        max(AIR * most, AIR_FOR_TEXT * data.limit[0]) if data.limit else (AIR_FOR_TEXT if data.labels else AIR) * most
    )


def _extent(data: Curves) -> float:
    """About how much of the y axis is drawn."""
    drawn = [
        float(points[:, 1:].min())
        for c in data.curves
        for points in (c.mean, c.band)
        if points is not None and len(points)
    ]
    low = min([*drawn, *(line.value for line in data.lines)], default=0.0)
    return max(_highest(data) - (0.0 if data.zero else low), 1e-9)


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


def _now(data: Curves, x: alt.X) -> list[alt.Chart]:
    if data.now is None:
        return []
    row = values([{"x": data.now, "text": _("now, step %(step)s", step=data.now)}])
    label = row.mark_text(baseline="top", color=MUTED, **side(data.now / data.end))
    return [row.mark_rule(color=STRONG).encode(x=x), label.encode(x=x, y=at_y(0), text=alt.Text("text:N"))]


def _limit(data: Curves, y: alt.Y) -> list[alt.Chart]:
    if data.limit is None:
        return []
    row = values([{"y": data.limit[0], "text": data.limit[1]}])
    label = row.mark_text(align="left", baseline="bottom", dx=4, dy=-4, color=MUTED)
    rule = row.mark_rule(strokeDash=[4, 4], color=MUTED)
    return [rule.encode(y=y), label.encode(x=at_x(0), y=y, text=alt.Text("text:N"))]


def _labelled(data: Curves, apart: float) -> list[Label]:
    """The kept evaluation, and others that are far enough from it."""
    labelled: list[Label] = []
    for label in sorted(data.labels, key=lambda label: not label.kept):
        if all(abs(label.x - other.x) >= apart * data.end for other in labelled):
            labelled.append(label)
    return labelled


def _label(label: Label, data: Curves, x: alt.X, y: alt.Y) -> list[alt.Chart]:
    """Above the curve or below it, wherever the evaluation lies."""
    line = data.curves[0].mean
    below = bool(len(line)) and label.y < line[np.abs(line[:, 0] - label.x).argmin(), 1]
    row = values([{"x": label.x, "y": label.y, "text": label.text}])
    where = {"x": x, "y": y, "text": alt.Text("text:N")}
    return halo(row, where, dy=11 if below else -9, color=INK, **side(label.x / data.end))
