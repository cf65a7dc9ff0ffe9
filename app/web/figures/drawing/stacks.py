"""Horizontal stacks: memory by owner, time by phase. One row an arm (or a kind), below a legend of the parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.web.figures.drawing import grammar as alt
from app.web.figures.drawing import legend
from app.web.figures.drawing.labels import widest
from app.web.figures.drawing.legend import Entry
from app.web.figures.drawing.scales import Domain
from app.web.figures.drawing.theme import INK, MUTED, NAME, SURFACE, Paper, at_x, own_colour, values

BAR, PALE_BAR = 26, 18
APART, CLOSE, EDGE = 18, 4, 9
"""Between a bar and the next, between a measured bar and the predicted one below it, and around all of them."""
PALE = 0.55
"""Opacity of what was predicted."""
CAP = 5
"""Half the stroke across the end of a band."""
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
    named = legend.places(_entries(data.bars), width)
    paper = Paper(
        width=width,
        height=_height(data.bars),
        left=widest([bar.name for bar in data.bars], NAME, most=150 if width > 420 else 100) + 12,
        right=12,
        top=legend.height(named),
        bottom=46,
    )
    room = most * paper.plot / max(paper.plot - total_width, 40)
    x = Domain.covering([0.0, room], ticks=5, air=0.0, least=0.0)
    return paper.draw(
        _bars(data, x),
        *_bands(data, x),
        _totals(data, x),
        _names(data, paper),
        *legend.layers(named, paper),
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
            color=own_colour(),
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
    found: alt.Chart = text.encode(x=at_x(0), y=y, text=alt.Text("name:N"), color=own_colour())
    return found


def _entries(bars: Sequence[Bar]) -> list[Entry]:
    """What stands for what: every colour that is seen, with the names of all parts that have it; what has several of
    them comes last."""
    named: dict[str, list[str]] = {}
    for bar in sorted(bars, key=lambda bar: bar.pale):  # a predicted part has the colour of the measured one
        new = [part for part in bar.parts if part.size > 0 and part.name and (not bar.pale or part.colour not in named)]
        for part in new:
            names = named.setdefault(part.colour, [])
            names += [part.name] if part.name not in names else []
    ordered = sorted(named.items(), key=lambda pair: len(pair[1]) > 1)
    return [Entry(colour, ", ".join(names)) for colour, names in ordered]
