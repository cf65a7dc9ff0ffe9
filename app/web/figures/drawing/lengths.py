"""How long rows are: bars over tokens, in shares of all rows, and a line where they are cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from app.web.figures.drawing import grammar as alt
from app.web.figures.drawing.labels import text_width
from app.web.figures.drawing.scales import Domain
from app.web.figures.drawing.theme import INK, SURFACE, Paper, at_x, at_y, own_colour, values

WITHIN, BEYOND = "var(--p-backward)", "var(--p-idle)"


@dataclass(frozen=True)
class Bin:
    """Rows of `low` to below `high` tokens."""

    low: int
    high: int
    share: float
    """Of all rows, in percent."""


@dataclass(frozen=True)
class Lengths:
    """What is drawn."""

    bins: tuple[Bin, ...]
    cut: int
    """Tokens that a row may keep."""
    cut_label: str
    across: str
    up: str


def chart(data: Lengths, width: int) -> alt.LayerChart:
    """Bars, paler beyond the line; the line with its name where the axis reaches it."""
    paper = Paper(width=width, height=200 if width > 420 else 170, left=40, right=12, top=30, bottom=46)
    x = Domain.covering([0.0, float(max((b.high for b in data.bins), default=1))], ticks=6, air=0.0, least=0.0)
    y = Domain.covering([0.0, max((b.share for b in data.bins), default=1.0)], ticks=4, air=0.05, least=0.0)
    layers = [_bars(data, x, y)]
    if data.cut < x.high:
        layers += _cut(data, x, paper)
    return paper.draw(*layers)


def _bars(data: Lengths, x: Domain, y: Domain) -> alt.Chart:
    rows = [
        {"low": b.low, "high": b.high, "share": b.share, "zero": 0, "colour": WITHIN if b.low < data.cut else BEYOND}
        for b in data.bins
    ]
    found: alt.Chart = (
        values(rows)
        .mark_rect(stroke=SURFACE, strokeWidth=1)
        .encode(
            x=alt.X("low:Q", scale=x.scale(), axis=x.axis(title=data.across)),
            x2=alt.X2("high:Q"),
            y=alt.Y("share:Q", scale=y.scale(), axis=y.axis(title=data.up, titleX=-36)),
            y2=alt.Y2("zero:Q"),
            color=own_colour(),
        )
    )
    return found


def _cut(data: Lengths, x: Domain, paper: Paper) -> list[alt.Chart]:
    at = x.pixel(data.cut, paper.plot)
    left = at + text_width(data.cut_label) + 8 < paper.plot
    line = values([{"zero": 0}]).mark_rule(stroke=INK, strokeWidth=1.5, strokeDash=[4, 3])
    side: dict[str, Any] = {
        "align": "left" if left else "right",
        "baseline": "top",
        "dx": 6 if left else -6,
        "fontWeight": "bold",
    }
    label = values([{"text": data.cut_label}])
    texts = (label.mark_text(**side, color=SURFACE, stroke=SURFACE, strokeWidth=5), label.mark_text(**side, color=INK))
    return [
        line.encode(x=at_x(at), y=at_y(0), y2=alt.Y2Value(paper.height)),  # type: ignore[no-untyped-call]
        *(text.encode(x=at_x(at), y=at_y(2), text=alt.Text("text:N")) for text in texts),
    ]
