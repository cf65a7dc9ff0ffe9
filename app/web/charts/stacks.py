"""Horizontal stacks: memory by owner, time by phase. One row an arm (or a kind), parts labelled where there is room."""

from dataclasses import dataclass

import altair as alt

from app.web.charts.labels import text_width, widest
from app.web.charts.scales import Domain
from app.web.charts.style import INK, MUTED, NAME, SURFACE, Paper, at_x, at_y, values

ROW = 44
BAR = 26


@dataclass(frozen=True)
class Part:
    """A stretch of a bar, in the axis's unit."""

    name: str
    colour: str
    size: float


@dataclass(frozen=True)
class Bar:
    """A row: its parts from left to right, and its total, which was measured by itself."""

    name: str
    parts: tuple[Part, ...]
    total: float
    label: str


@dataclass(frozen=True)
class Stacks:
    """Bars over one axis."""

    bars: tuple[Bar, ...]
    axis: str


def chart(data: Stacks, width: int) -> alt.LayerChart:
    """Stacks with the total at their end, and a tick at the total where the parts do not reach it just so."""
    ends = [max(bar.total, sum(p.size for p in bar.parts)) for bar in data.bars]
    total_width = widest([bar.label for bar in data.bars], bold=True) + 10
    paper = Paper(
        width=width,
        height=ROW * max(len(data.bars), 1),
        left=widest([bar.name for bar in data.bars], NAME, most=150 if width > 420 else 100) + 12,
        right=12,
        top=26,
        bottom=46,
    )
    most = max(ends, default=1.0) or 1.0
    room = most * paper.plot / max(paper.plot - total_width, 40)
    x = Domain.covering([0.0, room], ticks=5, air=0.0, least=0.0)
    return paper.draw(
        _bars(data, x),
        _totals(data, x),
        _names(data, paper),
        *(_heads(data, x, paper) if data.bars else []),
    )


def _top(row: int) -> float:
    return ROW * row + (ROW - BAR) / 2


def _y(paper_rows: int) -> alt.Scale:
    return alt.Scale(domain=[ROW * max(paper_rows, 1), 0], nice=False, zero=False)


def _bars(data: Stacks, x: Domain) -> alt.Chart:
    rows: list[dict[str, object]] = []
    for i, bar in enumerate(data.bars):
        at = 0.0
        for part in bar.parts:
            if part.size > 0:
                rows.append(
                    {
                        "from": at,
                        "to": at + part.size,
                        "top": _top(i),
                        "bottom": _top(i) + BAR,
                        "colour": part.colour,
                    }
                )
            at += part.size
    found: alt.Chart = (
        values(rows)
        .mark_rect(stroke=SURFACE, strokeWidth=1.2)
        .encode(
            x=alt.X("from:Q", scale=x.scale(), axis=x.axis(title=data.axis)),
            x2=alt.X2("to:Q"),
            y=alt.Y("top:Q", scale=_y(len(data.bars)), axis=None),
            y2=alt.Y2("bottom:Q"),
            color=alt.Color("colour:N", scale=None, legend=None),
        )
    )
    return found


def _totals(data: Stacks, x: Domain) -> alt.Chart:
    rows = [
        {"end": max(bar.total, sum(p.size for p in bar.parts)), "y": _top(i) + BAR / 2, "label": bar.label}
        for i, bar in enumerate(data.bars)
    ]
    text = values(rows).mark_text(align="left", dx=7, fontWeight="bold", fontSize=NAME, color=INK)
    y = alt.Y("y:Q", scale=_y(len(data.bars)), axis=None)
    found: alt.Chart = text.encode(x=alt.X("end:Q", scale=x.scale()), y=y, text=alt.Text("label:N"))
    return found


def _names(data: Stacks, paper: Paper) -> alt.Chart:
    rows = [{"y": _top(i) + BAR / 2, "name": bar.name} for i, bar in enumerate(data.bars)]
    text = values(rows).mark_text(align="right", dx=-10, fontSize=NAME, limit=paper.left - 12, color=INK)
    y = alt.Y("y:Q", scale=_y(len(data.bars)), axis=None)
    found: alt.Chart = text.encode(x=at_x(0), y=y, text=alt.Text("name:N"))
    return found


def _heads(data: Stacks, x: Domain, paper: Paper) -> list[alt.Chart]:
    """Names of the longest bar's parts above the first row, where they are wide enough for them."""
    widest_bar = data.bars[0]
    layers: list[alt.Chart] = []
    at, free = 0.0, 0.0
    for part in widest_bar.parts:
        left = x.pixel(at, paper.plot)
        at += part.size
        if part.size <= 0 or left < free or x.pixel(at, paper.plot) - left < 14:
            continue
        left = min(left, paper.plot + paper.right - text_width(part.name))
        if left < free:
            continue
        text = values([{"text": part.name}]).mark_text(align="left", baseline="bottom", dy=-2, color=MUTED)
        layers.append(text.encode(x=at_x(left), y=at_y(_top(0)), text=alt.Text("text:N")))
        free = left + text_width(part.name) + 8
    return layers
