"""The verdict in a picture: each arm's difference to the reference with its interval, over the band of the margin."""

from __future__ import annotations

from dataclasses import dataclass

from app.web.figures.drawing import grammar as alt
from app.web.figures.drawing.labels import text_width, widest
from app.web.figures.drawing.scales import Domain
from app.web.figures.drawing.theme import (
    BAND,
    INK,
    MUTED,
    NAME,
    MarkStyle,
    Paper,
    at_x,
    at_y,
    markers,
    own_colour,
    values,
)
from app.web.i18n import gettext as _

BESIDE = 400
"""From this width on, names stand beside the intervals; below it, above them."""
MARGIN_LABEL = 26


@dataclass(frozen=True)
class Row:
    """An arm. Points; None where there is no interval, infinite where it has no end."""

    style: MarkStyle
    word: str
    delta: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Differences:
    """The arms that are not the reference."""

    rows: tuple[Row, ...]
    margin: float
    reference: str


def chart(data: Differences, width: int) -> alt.LayerChart:
    """Intervals (lines), means (markers), the margin (band), no difference (line at 0). Points."""
    beside = width >= BESIDE
    names = [row.style.name for row in data.rows]
    words = [row.word for row in data.rows]
    paper = Paper(
        width=width,
        height=(44 if beside else 56) * max(len(data.rows), 1),
        left=widest(names, NAME, bold=True, most=140) + 14 if beside else 4,
        right=widest(words, NAME) + 14 if beside else 4,
        top=MARGIN_LABEL,
        bottom=28,
    )
    domain = _domain(data)
    step = paper.height / max(len(data.rows), 1)
    rows = [
        row.style.fields
        | {
            "y": step * (i + (0.5 if beside else 0.78)),
            "name": row.style.name,
            "word": row.word,
            "delta": row.delta,
            "low": None if row.low is None else max(row.low, domain.low),
            "high": None if row.high is None else min(row.high, domain.high),
        }
        for i, row in enumerate(data.rows)
    ]
    known = [row for row in rows if row["delta"] is not None]
    y = alt.Y("y:Q", scale=_rows(paper), axis=None)
    x = {name: alt.X(f"{name}:Q", scale=domain.scale()) for name in ("delta", "low")}
    interval = values(known).mark_rule(strokeWidth=2.5, strokeCap="round").encode(x=x["low"], x2=alt.X2("high:Q"), y=y)
    return paper.draw(
        *_ground(data, domain, paper, beside=beside),
        interval.encode(color=own_colour()),
        *markers(known, 110, x=x["delta"], y=y),
        *_names(rows, y, paper, beside=beside),
    )


def _rows(paper: Paper) -> alt.Scale:
    """Pixels from the top."""
    return alt.Scale(domain=[paper.height, 0], nice=False, zero=False)


def _domain(data: Differences) -> Domain:
    ends = [end for row in data.rows for end in (row.low, row.high, row.delta)]
    return Domain.covering([-data.margin, data.margin, 0.0, *ends], ticks=5, air=0.08)


def _ground(data: Differences, domain: Domain, paper: Paper, *, beside: bool) -> list[alt.Chart]:
    """The margin as a band with its label, and the line of no difference; broken where a name stands above a line."""
    step = paper.height / max(len(data.rows), 1)
    lanes = [
        {
            "low": -data.margin,
            "high": data.margin,
            "zero": 0,
            "top": step * i + (0 if beside else 31),
            "end": step * (i + 1),
        }
        for i in range(max(len(data.rows), 1))
    ]
    axis = domain.axis(title=None, labelExpr="datum.value > 0 ? '+' + datum.label : datum.label")
    x, y = alt.X("low:Q", scale=domain.scale(), axis=axis), alt.Y("top:Q", scale=_rows(paper), axis=None)
    band = values(lanes).mark_rect(color=BAND).encode(x=x, x2=alt.X2("high:Q"), y=y, y2=alt.Y2("end:Q"))
    zero = values(lanes).mark_rule(color=INK, strokeWidth=1).encode(x=alt.X("zero:Q"), y=y, y2=alt.Y2("end:Q"))
    text = _("%(reference)s ± %(margin)s, the margin", reference=data.reference, margin=f"{data.margin:g}")
    centre, half = domain.pixel(0, paper.plot), text_width(text) / 2
    at = min(max(centre, half - paper.left), paper.plot + paper.right - half)
    label = (
        values([{"text": text}])
        .mark_text(dy=-6, baseline="bottom", color=MUTED, limit=paper.width)
        .encode(x=at_x(at), y=at_y(0), text=alt.Text("text:N"))
    )
    return [band, zero, label]


def _names(rows: list[dict[str, object]], y: alt.Y, paper: Paper, *, beside: bool) -> list[alt.Chart]:
    """The arm's name at the left and the verdict's word at the right; above the line where there is no room beside."""
    up = 0 if beside else -23
    name = (
        values(rows)
        .mark_text(
            align="right" if beside else "left",
            dx=-12 if beside else 0,
            dy=up,
            fontWeight="bold",
            fontSize=NAME,
            limit=paper.left - 12 if beside else paper.plot * 0.62,
        )
        .encode(x=at_x(0), y=y, text=alt.Text("name:N"), color=own_colour())
    )
    word = (
        values(rows)
        .mark_text(align="left" if beside else "right", dx=12 if beside else 0, dy=up, fontSize=NAME, color=INK)
        .encode(x=at_x(paper.plot), y=y, text=alt.Text("word:N"))
    )
    return [name, word]
