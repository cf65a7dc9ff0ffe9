"""One quantity of one run: what happened is drawn, what is left of the run is blank, limits are dashed."""

from __future__ import annotations

from dataclasses import dataclass

from app.web.figures.drawing import grammar as alt
from app.web.figures.drawing.labels import text_width
from app.web.figures.drawing.scales import Domain
from app.web.figures.drawing.theme import INK, MUTED, STRONG, SURFACE, Paper, at_x, at_y, values
from app.web.i18n import gettext as _


@dataclass(frozen=True)
class Mark:
    """A single value with a name: a validation loss."""

    step: float
    value: float
    text: str
    kept: bool = False
    """Of the checkpoint that was kept: it is named before the others."""


@dataclass(frozen=True)
class Live:
    """A run's curve so far."""

    raw: tuple[tuple[float, float], ...]
    smooth: tuple[tuple[float, float], ...]
    colour: str
    title: str
    steps: int
    """Of the whole run."""
    seen: int | None
    """The last step so far; None when the run has ended."""
    marks: tuple[Mark, ...] = ()
    limit: tuple[float, str] | None = None
    """A value that matters, and its name."""


def chart(data: Live, width: int) -> alt.LayerChart:
    """Raw values (thin), their running mean (line), where the run stands, and what is marked."""
    paper = Paper(width=width, height=220 if width > 420 else 200, left=44, right=16, top=30, bottom=46)
    x = Domain.covering([0.0, float(max(data.steps, 1))], ticks=5 if width > 420 else 4, air=0.0)
    y = _domain(data)
    x_axis = alt.X("step:Q", scale=x.scale(), axis=x.axis(title=_("Optimizer step →")))
    y_axis = alt.Y("value:Q", scale=y.scale(), axis=y.axis(title=data.title, titleX=-42))
    thin = values([{"step": s, "value": min(v, y.high)} for s, v in data.raw])
    line = values([{"step": s, "value": v} for s, v in data.smooth])
    return paper.draw(
        thin.mark_line(strokeWidth=1, opacity=0.4, color=data.colour).encode(x=x_axis, y=y_axis),
        line.mark_line(strokeWidth=2.2, color=data.colour).encode(x=x_axis, y=y_axis),
        *_now(data, x, paper),
        *_limit(data, paper),
        *_marks(data, x, paper),
    )


def _domain(data: Live) -> Domain:
    calm = [v for _s, v in data.smooth] + [m.value for m in data.marks] + ([data.limit[0]] if data.limit else [])
    most = 1.4 * max(calm, default=1.0)
    return Domain.covering([0.0, *(v for _s, v in data.raw if v <= most), *calm], ticks=4, least=0.0)


def _now(data: Live, x: Domain, paper: Paper) -> list[alt.Chart]:
    if data.seen is None:
        return []
    text = _("now, step %(step)s", step=data.seen)
    at = x.pixel(data.seen, paper.plot)
    left = at + text_width(text) + 10 < paper.plot + paper.right
    label = values([{"text": text}]).mark_text(
        align="left" if left else "right", dx=6 if left else -6, baseline="top", color=MUTED
    )
    return [
        values([{"step": data.seen}]).mark_rule(color=STRONG).encode(x=alt.X("step:Q")),
        label.encode(x=at_x(at), y=at_y(0), text=alt.Text("text:N")),
    ]


def _limit(data: Live, paper: Paper) -> list[alt.Chart]:
    if data.limit is None:
        return []
    value, text = data.limit
    row = values([{"value": value, "text": text}])
    return [
        row.mark_rule(strokeDash=[4, 4], color=MUTED).encode(y=alt.Y("value:Q")),
        row.mark_text(align="right", baseline="bottom", dy=-4, color=MUTED).encode(
            x=at_x(paper.plot), y=alt.Y("value:Q"), text=alt.Text("text:N")
        ),
    ]


def _marks(data: Live, x: Domain, paper: Paper) -> list[alt.Chart]:
    """Diamonds; each is named, over a halo, if its name does not run into one that stands already."""
    if not data.marks:
        return []
    rows = [{"step": m.step, "value": m.value} for m in data.marks]
    point = values(rows).mark_point(filled=True, size=70, opacity=1, color=INK, shape="diamond")
    layers = [point.encode(x=alt.X("step:Q"), y=alt.Y("value:Q"))]
    taken: list[tuple[float, float]] = []
    for mark in sorted(data.marks, key=lambda mark: not mark.kept):
        at, wide = x.pixel(mark.step, paper.plot), text_width(mark.text)
        left = at + 8 + wide < paper.plot + paper.right
        start = at + 8 if left else at - 8 - wide
        if any(start < end and begin < start + wide + 4 for begin, end in taken):
            continue
        taken.append((start, start + wide + 4))
        below = mark.value < _at(data.smooth, mark.step)
        row = values([{"step": mark.step, "value": mark.value, "text": mark.text}])
        for stroke in (SURFACE, "transparent"):
            text = row.mark_text(
                align="left" if left else "right",
                dx=8 if left else -8,
                dy=11 if below else -9,
                color=INK,
                stroke=stroke,
                strokeWidth=4,
                strokeJoin="round",
            )
            layers.append(text.encode(x=alt.X("step:Q"), y=alt.Y("value:Q"), text=alt.Text("text:N")))
    return layers


def _at(curve: tuple[tuple[float, float], ...], step: float) -> float:
    """The curve's value next to a step."""
    return min(curve, key=lambda point: abs(point[0] - step))[1] if curve else 0.0
