"""Curves over training: each arm's mean over seeds (line), smallest to largest seed (band), each seed (thin)."""

from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt
import numpy as np

from app.domain.thinning import lttb
from app.web.charts.labels import spread, widest
from app.web.charts.scales import Domain
from app.web.charts.style import NAME, Look, Paper, at_x, at_y, markers, values
from app.web.charts.thin import Floats, bands, extremes, smooth, window_for
from app.web.i18n import gettext as _

POINTS = 180
RAW_POINTS = 120
THIN = 5
"""Seeds of an arm that are drawn one by one; the band holds the rest."""
Pairs = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Curve:
    """An arm, thinned for drawing."""

    look: Look
    mean: Pairs
    band: tuple[tuple[float, float, float], ...]
    """(step, smallest, largest); empty with one seed."""
    raw: tuple[Pairs, ...]
    """The first seeds' own."""


@dataclass(frozen=True)
class Curves:
    """What is drawn over the optimizer step."""

    curves: tuple[Curve, ...]
    steps: int
    """Where the axis ends."""
    title: str
    """Of the y axis."""
    marked: bool
    """Few points (one an epoch): each is marked."""
    least: float | None = None
    most: float | None = None
    """Ends of the scale where it has ends."""


def loss_curve(look: Look, seeds: Sequence[tuple[Floats, Floats]]) -> Curve:
    """From each seed's (step, loss): calm each seed by a running mean, take mean and band over seeds, then thin."""
    steps = [s for s, _loss in seeds]
    calm = [smooth(loss, window_for(len(loss))) for _s, loss in seeds]
    mean, low, high = bands(calm)
    shared = steps[0][: len(mean)]
    at = lttb(shared, mean, POINTS)
    low, high = extremes(low, high, at)
    band = [(float(s), float(a), float(b)) for s, a, b in zip(shared[at], low, high, strict=True)]
    return Curve(
        look=look,
        mean=_pairs(shared[at], mean[at]),
        band=tuple(band) if len(seeds) > 1 else (),
        raw=tuple(_pairs(s[i := lttb(s, loss, RAW_POINTS)], loss[i]) for s, loss in seeds[:THIN]),
    )


def point_curve(look: Look, seeds: Sequence[tuple[Floats, Floats]]) -> Curve:
    """From each seed's few (step, value): the same, with nothing smoothed or thinned."""
    mean, low, high = bands([value for _s, value in seeds])
    steps = seeds[0][0][: len(mean)]
    band = [(float(s), float(a), float(b)) for s, a, b in zip(steps, low, high, strict=True)]
    return Curve(
        look=look,
        mean=_pairs(steps, mean),
        band=tuple(band) if len(seeds) > 1 else (),
        raw=tuple(_pairs(s, value) for s, value in seeds[:THIN]),
    )


def chart(data: Curves, width: int) -> alt.LayerChart:
    """Bands, thin seeds, means with each arm's marker colour and dash, names at the ends of the lines."""
    names = [c.look.name for c in data.curves]
    paper = Paper(
        width=width,
        height=270 if width > 420 else 240,
        left=44,
        right=widest(names, NAME, bold=True, most=130 if width > 420 else 96) + 16,
        top=30,
        bottom=46,
    )
    y = _domain(data)
    x = Domain.covering([0.0, float(max(data.steps, 1))], ticks=5 if width > 420 else 4, air=0.0)
    x_axis = alt.X("step:Q", scale=x.scale(), axis=x.axis(title=_("Optimizer step →")))
    y_axis = alt.Y("value:Q", scale=y.scale(), axis=y.axis(title=data.title, titleX=-42))
    return paper.draw(
        *[layer for curve in data.curves for layer in _behind(curve, y)],
        *[_line(curve, x_axis, y_axis) for curve in data.curves],
        *(_marks(data) if data.marked else []),
        *_ends(data, y, paper),
    )


def _domain(data: Curves) -> Domain:
    seen = [v for c in data.curves for pairs in (c.mean, *c.raw) for _s, v in pairs]
    if not data.marked:  # a single wild batch must not flatten everything else
        lines = [v for c in data.curves for _s, v in c.mean] + [v for c in data.curves for b in c.band for v in b[1:]]
        most = 1.15 * max(lines, default=1.0)
        seen = [v for v in seen if v <= most]
    return Domain.covering([*seen, *([data.least] if data.least is not None else [])], least=data.least, most=data.most)


def _behind(curve: Curve, y: Domain) -> list[alt.Chart]:
    """The band and the single seeds."""
    colour = curve.look.colour
    seeds = [
        {"step": step, "value": min(value, y.high), "seed": i}
        for i, pairs in enumerate(curve.raw)
        for step, value in pairs
    ]
    layers = []
    if len(curve.raw) > 1:
        band = values([{"step": s, "low": low, "high": high} for s, low, high in curve.band])
        layers.append(
            band.mark_area(opacity=0.16, color=colour).encode(
                x=alt.X("step:Q"), y=alt.Y("low:Q", scale=y.scale()), y2=alt.Y2("high:Q")
            )
        )
    thin = values(seeds).mark_line(strokeWidth=0.8, opacity=0.3, color=colour)
    return [*layers, thin.encode(x=alt.X("step:Q"), y=alt.Y("value:Q"), detail=alt.Detail("seed:N"))]


def _line(curve: Curve, x: alt.X, y: alt.Y) -> alt.Chart:
    rows = [{"step": step, "value": value} for step, value in curve.mean]
    look = curve.look
    line = values(rows).mark_line(strokeWidth=2.2, color=look.colour, strokeDash=look.dash)
    found: alt.Chart = line.encode(x=x, y=y)
    return found


def _marks(data: Curves) -> list[alt.Chart]:
    rows = [c.look.fields | {"step": s, "value": v} for c in data.curves for s, v in c.mean]
    return markers(rows, 60, x=alt.X("step:Q"), y=alt.Y("value:Q"))


def _ends(data: Curves, y: Domain, paper: Paper) -> list[alt.Chart]:
    """Names at the right edge, at the height of the last value, moved apart where they would collide."""
    last = [(c.look, c.mean[-1][1]) for c in data.curves if c.mean]
    wanted = [paper.height - y.pixel(value, paper.height) for _look, value in last]
    places = spread(wanted, 16, 4, paper.height - 4)
    layers = []
    for (look, _value), place in zip(last, places, strict=True):
        text = values([{"text": look.name}]).mark_text(
            align="left", dx=10, fontWeight="bold", fontSize=NAME, limit=paper.right - 12, color=look.colour
        )
        layers.append(text.encode(x=at_x(paper.plot), y=at_y(place), text=alt.Text("text:N")))
    return layers


def _pairs(x: Floats, y: Floats) -> Pairs:
    return tuple((float(a), float(b)) for a, b in zip(x, y, strict=True) if np.isfinite(b))
