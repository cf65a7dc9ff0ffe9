"""Horizontal stacks: memory by owner, time by phase. One bar an arm (or a kind), below a legend of the parts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.web.figures.drawing import grammar as alt
from app.web.figures.drawing.theme import (
    INK,
    MUTED,
    NAME,
    SMALL,
    SURFACE,
    WIDE_FROM,
    frame,
    named_axis,
    number_axis,
    values,
)

BAR, PALE_BAR = 26, 18
APART, CLOSE, EDGE = 18, 4, 9
"""Between a bar and the next, between a measured bar and the estimated one below it, and around all of them."""
LEGEND_GAP = 30
"""Pixels of an entry of the legend beside its name."""
PALE = 0.55
"""Opacity of what was estimated."""
CAP = 5
"""Half the stroke across the end of a band."""
FARTHEST = 1.25
"""A band is drawn up to so many times the longest bar."""
TOTAL, NAMES = 80, 100
"""Pixels that are kept for the total at the end of the longest bar, and taken by the bars' names."""


@dataclass(frozen=True)
class Part:
    """A stretch of a bar, in the axis's unit. Without a name it has no entry in the legend."""

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
    """Estimated: paler and thinner, right below the bar that was measured."""
    band: tuple[float, float] | None = None
    """From where to where the total may lie, where it was estimated."""

    @property
    def end(self) -> float:
        return max(self.total, sum(part.size for part in self.parts))


@dataclass(frozen=True)
class Stacks:
    bars: tuple[Bar, ...]
    axis: str


def chart(data: Stacks, width: int) -> alt.LayerChart:
    """Stacks with the total at their end, and the band of what was estimated."""
    bars = data.bars
    middles = [(top + bottom) / 2 for top, bottom in _places(bars)]
    names = [bar.name for bar in bars]
    colours = [MUTED if bar.pale else INK for bar in bars]
    axis = named_axis(
        names,
        middles,
        title=None,
        labelFontSize=NAME,
        labelLimit=150 if width > WIDE_FROM else 100,
        labelColor=alt.ExprRef(f"{json.dumps(colours)}[indexof({json.dumps(middles)}, datum.value)]"),
    )
    return frame(
        _bars(data, axis, width),
        *_bands(data, width),
        _totals(data, middles, width),
        width=width,
        height=_height(bars),
    )


def _tip(bar: Bar, bars: Sequence[Bar]) -> float:
    """Where a bar and its band end, as far as they are drawn."""
    longest = max(other.end for other in bars)
    return max(bar.end, min(bar.band[1], FARTHEST * longest)) if bar.band else bar.end


def _places(bars: Sequence[Bar]) -> list[tuple[int, int]]:
    places: list[tuple[int, int]] = []
    for bar in bars:
        top = places[-1][1] + (CLOSE if bar.pale else APART) if places else EDGE
        places.append((top, top + (PALE_BAR if bar.pale else BAR)))
    return places


def _height(bars: Sequence[Bar]) -> int:
    return (_places(bars)[-1][1] if bars else EDGE + BAR) + EDGE


def _x(field: str, data: Stacks, width: int, axis: alt.Axis | None = None) -> alt.X:
    """From zero to where the total of the longest bar ends."""
    longest = max((_tip(bar, data.bars) for bar in data.bars), default=1.0) or 1.0
    end = longest * (1 + TOTAL / (width - NAMES - TOTAL))
    scale = alt.Scale(domain=[0, end], nice=False)
    return alt.X(f"{field}:Q", scale=scale, axis=axis) if axis else alt.X(f"{field}:Q", scale=scale)


def _y(field: str, data: Stacks, axis: alt.Axis | None = None) -> alt.Y:
    """Pixels from the top."""
    scale = alt.Scale(domain=[_height(data.bars), 0], nice=False, zero=False)
    return alt.Y(f"{field}:Q", scale=scale, axis=axis) if axis else alt.Y(f"{field}:Q", scale=scale)


def _bars(data: Stacks, axis: alt.Axis, width: int) -> alt.Chart:
    rows: list[dict[str, object]] = []
    entries: dict[str, str] = {}
    for bar, (top, bottom) in zip(data.bars, _places(data.bars), strict=True):
        start = 0.0
        for part in bar.parts:
            if part.size > 0 and part.colour != "transparent":
                entries.setdefault(part.name, part.colour)
                opacity = PALE if bar.pale else 1.0
                place: dict[str, object] = {"from": start, "to": start + part.size, "top": top, "bottom": bottom}
                rows.append(place | {"part": part.name, "opacity": opacity})
            start += part.size
    named = sorted(filter(None, entries), key=lambda name: _times(name, data.bars) > 1)
    look: dict[str, Any] = {"symbolType": "square", "symbolStrokeWidth": 0, "symbolOpacity": 1}
    columns = _columns(named, 4 if width > WIDE_FROM else 2, width)
    legend = alt.Legend(orient="top", title=None, columns=columns, values=named, **look) if named else None
    bars: alt.Chart = (
        values(rows)
        .mark_rect(stroke=SURFACE, strokeWidth=1.2)
        .encode(
            x=_x("from", data, width, number_axis(data.axis)),
            x2=alt.X2("to:Q"),
            y=_y("top", data, axis),
            y2=alt.Y2("bottom:Q"),
            fill=alt.Fill(
                "part:N",
                scale=alt.Scale(domain=list(entries), range=list(entries.values())),
                legend=legend,
            ),
            opacity=alt.Opacity("opacity:Q", scale=None, legend=None),
        )
    )
    return bars


def _columns(names: Sequence[str], most: int, width: int) -> int:
    """Into how many columns of the legend the names fit; Cyrillic letters are wider than Latin ones."""
    for columns in range(most, 1, -1):
        widest = [max(map(_length, names[place::columns]), default=0.0) for place in range(columns)]
        if sum(widest) + columns * LEGEND_GAP <= width:
            return columns
    return 1


def _length(name: str) -> float:
    return min(160.0, sum(0.63 if c >= "\N{CYRILLIC CAPITAL LETTER IE WITH GRAVE}" else 0.5 for c in name) * SMALL)


def _times(name: str, bars: Sequence[Bar]) -> int:
    """How often a name occurs in a bar: one that sums several parts comes last in the legend."""
    return max(sum(part.name == name for part in bar.parts) for bar in bars)


def _bands(data: Stacks, width: int) -> list[alt.Chart]:
    """A line along each band with a stroke across its ends; an arrow where it goes on beyond the drawing."""
    bars = data.bars
    rows: list[dict[str, object]] = []
    for bar, (top, bottom) in zip(bars, _places(bars), strict=True):
        if bar.band is not None:
            tip, middle = _tip(bar, bars), (top + bottom) / 2
            low, high = (min(end, tip) for end in bar.band)
            ends: dict[str, object] = {"low": low, "high": high, "cut": bar.band[1] > tip}
            rows.append(ends | {"y": middle, "top": middle - CAP, "bottom": middle + CAP})
    if not rows:
        return []
    complete, cut = ([row for row in rows if row["cut"] is beyond] for beyond in (False, True))
    y, across = _y("y", data), _y("top", data)
    low_x, high_x = _x("low", data, width), _x("high", data, width)
    return [
        _stroke(rows).encode(x=low_x, x2=alt.X2("high:Q"), y=y),
        _stroke(rows).encode(x=low_x, y=across, y2=alt.Y2("bottom:Q")),
        _stroke(complete).encode(x=high_x, y=across, y2=alt.Y2("bottom:Q")),
        values(cut)
        .mark_point(shape="triangle-right", size=40, filled=True, opacity=1, color=INK)
        .encode(x=high_x, y=y),
    ]


def _stroke(rows: Sequence[dict[str, object]]) -> alt.Chart:
    stroke: alt.Chart = values(rows).mark_rule(color=INK, strokeWidth=1.5)
    return stroke


def _totals(data: Stacks, middles: Sequence[float], width: int) -> alt.Chart:
    rows = [
        {"end": _tip(bar, data.bars), "y": y, "label": bar.label} for bar, y in zip(data.bars, middles, strict=True)
    ]
    text = values(rows).mark_text(align="left", dx=7, fontWeight="bold", fontSize=NAME, color=INK)
    totals: alt.Chart = text.encode(x=_x("end", data, width), y=_y("y", data), text=alt.Text("label:N"))
    return totals
