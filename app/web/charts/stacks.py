"""Horizontal stacks: memory by owner, time by phase. One row an arm (or a kind), parts labelled where there is room."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import altair as alt

from app.web.charts.labels import text_width, widest
from app.web.charts.scales import Domain
from app.web.charts.style import COLOUR, INK, MUTED, NAME, SURFACE, Paper, at_x, at_y, values

BAR, PALE_BAR = 26, 18
APART, CLOSE, EDGE = 18, 4, 9
"""Between a bar and the next, between a measured bar and the predicted one below it, and around all of them."""
PALE = 0.55
"""Opacity of what was predicted."""
CAP = 5
"""Half the stroke across the end of a band."""
NARROWEST, AIR = 14, 8
"""Pixels: of a part that has its name above it, and between two names."""
FARTHEST = 1.25
"""So many times the longest bar a band is drawn."""


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
    pale: bool = False
    """Predicted: paler and thinner, right below the bar that was measured."""
    band: tuple[float, float] | None = None
    """From where to where the total may lie, where it was predicted."""

    @property
    def end(self) -> float:
        """Of the bar."""
        return max(self.total, sum(part.size for part in self.parts))


@dataclass(frozen=True)
class Stacks:
    """Bars over one axis."""

    bars: tuple[Bar, ...]
    axis: str


def chart(data: Stacks, width: int) -> alt.LayerChart:
    """Stacks with the total at their end, and a tick at the total where the parts do not reach it just so."""
    most = _reach(data.bars)
    total_width = widest([bar.label for bar in data.bars], bold=True) + 10
    paper = Paper(
        width=width,
        height=_height(data.bars),
        left=widest([bar.name for bar in data.bars], NAME, most=150 if width > 420 else 100) + 12,
        right=12,
        top=26,
        bottom=46,
    )
    room = most * paper.plot / max(paper.plot - total_width, 40)
    x = Domain.covering([0.0, room], ticks=5, air=0.0, least=0.0)
    return paper.draw(
        _bars(data, x),
        *_bands(data, x),
        _totals(data, x),
        _names(data, paper),
        *(_heads(data, x, paper) if data.bars else []),
    )


def _reach(bars: Sequence[Bar]) -> float:
    """Where the drawing ends: at the longest bar, or at the longest band that goes not far beyond it."""
    return max((_tip(bar, bars) for bar in bars), default=1.0) or 1.0


def _tip(bar: Bar, bars: Sequence[Bar]) -> float:
    """Where a bar and its band end, as far as they are drawn."""
    longest = max(other.end for other in bars)
    return max(bar.end, min(bar.band[1], FARTHEST * longest)) if bar.band else bar.end


def _places(bars: Sequence[Bar]) -> list[tuple[int, int]]:
    """Top and bottom of each bar."""
    found: list[tuple[int, int]] = []
    for bar in bars:
        top = found[-1][1] + (CLOSE if bar.pale else APART) if found else EDGE
        found.append((top, top + (PALE_BAR if bar.pale else BAR)))
    return found


def _height(bars: Sequence[Bar]) -> int:
    return (_places(bars)[-1][1] if bars else EDGE + BAR) + EDGE


def _y(bars: Sequence[Bar]) -> alt.Scale:
    return alt.Scale(domain=[_height(bars), 0], nice=False, zero=False)


def _bars(data: Stacks, x: Domain) -> alt.Chart:
    rows: list[dict[str, object]] = []
    for bar, (top, bottom) in zip(data.bars, _places(data.bars), strict=True):
        at = 0.0
        for part in bar.parts:
            if part.size > 0:
                rows.append(
                    {
                        "from": at,
                        "to": at + part.size,
                        "top": top,
                        "bottom": bottom,
                        "colour": part.colour,
                        "opacity": PALE if bar.pale else 1.0,
                    }
                )
            at += part.size
    found: alt.Chart = (
        values(rows)
        .mark_rect(stroke=SURFACE, strokeWidth=1.2)
        .encode(
            x=alt.X("from:Q", scale=x.scale(), axis=x.axis(title=data.axis)),
            x2=alt.X2("to:Q"),
            y=alt.Y("top:Q", scale=_y(data.bars), axis=None),
            y2=alt.Y2("bottom:Q"),
            color=COLOUR,
            opacity=alt.Opacity("opacity:Q", scale=None, legend=None),
        )
    )
    return found


def _bands(data: Stacks, x: Domain) -> list[alt.Chart]:
    """A line along each band with a stroke across its ends; an arrow where it goes on beyond the drawing."""
    rows: list[dict[str, object]] = []
    for bar, (top, bottom) in zip(data.bars, _places(data.bars), strict=True):
        if bar.band is not None:
            tip, middle = _tip(bar, data.bars), (top + bottom) / 2
            ends: dict[str, object] = {
                "low": min(bar.band[0], tip),
                "high": min(bar.band[1], tip),
                "cut": bar.band[1] > tip,
            }
            rows.append(ends | {"y": middle, "top": middle - CAP, "bottom": middle + CAP})
    if not rows:
        return []
    low, high = (alt.X(f"{end}:Q", scale=x.scale()) for end in ("low", "high"))
    y, across = (alt.Y(f"{name}:Q", scale=_y(data.bars), axis=None) for name in ("y", "top"))
    whole, cut = ([row for row in rows if row["cut"] is beyond] for beyond in (False, True))
    return [
        _stroke(rows).encode(x=low, x2=alt.X2("high:Q"), y=y),
        _stroke(rows).encode(x=low, y=across, y2=alt.Y2("bottom:Q")),
        _stroke(whole).encode(x=high, y=across, y2=alt.Y2("bottom:Q")),
        values(cut).mark_point(shape="triangle-right", size=40, filled=True, opacity=1, color=INK).encode(x=high, y=y),
    ]


def _stroke(rows: Sequence[dict[str, object]]) -> alt.Chart:
    found: alt.Chart = values(rows).mark_rule(color=INK, strokeWidth=1.5)
    return found


def _totals(data: Stacks, x: Domain) -> alt.Chart:
    rows = [
        {"end": _tip(bar, data.bars), "y": (top + bottom) / 2, "label": bar.label}
        for bar, (top, bottom) in zip(data.bars, _places(data.bars), strict=True)
    ]
    text = values(rows).mark_text(align="left", dx=7, fontWeight="bold", fontSize=NAME, color=INK)
    y = alt.Y("y:Q", scale=_y(data.bars), axis=None)
    found: alt.Chart = text.encode(x=alt.X("end:Q", scale=x.scale()), y=y, text=alt.Text("label:N"))
    return found


def _names(data: Stacks, paper: Paper) -> alt.Chart:
    rows = [
        {"y": (top + bottom) / 2, "name": bar.name, "colour": MUTED if bar.pale else INK}
        for bar, (top, bottom) in zip(data.bars, _places(data.bars), strict=True)
    ]
    text = values(rows).mark_text(align="right", dx=-10, fontSize=NAME, limit=paper.left - 12)
    y = alt.Y("y:Q", scale=_y(data.bars), axis=None)
    found: alt.Chart = text.encode(x=at_x(0), y=y, text=alt.Text("name:N"), color=COLOUR)
    return found


def _heads(data: Stacks, x: Domain, paper: Paper) -> list[alt.Chart]:
    """Names of the first bar's parts above it, as many as there is room for: those of the widest first."""
    found: list[tuple[float, float, str]] = []
    begins = accumulate((part.size for part in data.bars[0].parts), initial=0.0)
    for begin, part in sorted(zip(begins, data.bars[0].parts, strict=False), key=lambda pair: -pair[1].size):
        left, right = x.pixel(begin, paper.plot), x.pixel(begin + part.size, paper.plot)
        if right - left < NARROWEST:
            break
        width = text_width(part.name)
        moved = min(left, paper.plot + paper.right - width)
        if left - moved > AIR:
            continue  # it would stand above another part
        left = moved
        if all(left + width + AIR <= other or left >= end + AIR for other, end, _name in found):
            found.append((left, left + width, part.name))
    y = at_y(_places(data.bars)[0][0])
    return [
        values([{"text": name}])
        .mark_text(align="left", baseline="bottom", dy=-2, color=MUTED)
        .encode(x=at_x(left), y=y, text=alt.Text("text:N"))
        for left, _end, name in sorted(found)
    ]
