"""Bars of a table or a panel: split ones, in hundredths of the longest, and intervals in units of the margin."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

GAP = 0.4
"""Between the parts."""
LEAST = 0.3
"""A part that is there is seen."""
HALF_WIDTH = 60.0
UNITS = 4.0
"""Margins from the middle of a scale to its end."""


@dataclass(frozen=True)
class Segment:
    css: str
    x: float
    width: float


def segments(parts: Iterable[tuple[str, float]], longest: float) -> tuple[Segment, ...]:
    bar, at = [], 0.0
    for css, size in parts:
        width = 100 * size / longest
        if width > 0:
            bar.append(Segment(css, round(at, 2), round(max(width - GAP, LEAST), 2)))
        at += width
    return tuple(bar)


@dataclass(frozen=True)
class MarginScale:
    """A difference and its interval in units of the margin, so that rows compare: 0 is at 60 of 120, a margin is 15."""

    low: float
    high: float
    at: float
    past: int
    """−1 or 1: the difference itself lies beyond that end."""
    label: str

    @classmethod
    def placed(cls, delta: float, low: float, high: float, margin: float, label: str) -> Self:
        """From a difference, its interval and the margin, in one unit."""
        past = 0 if abs(delta) < UNITS * margin else 1 if delta > 0 else -1
        return cls(_place(low / margin), _place(high / margin), _place(delta / margin), past, label)


def _place(margins: float) -> float:
    return round(HALF_WIDTH * (1 + max(-1.0, min(1.0, margins / UNITS))), 2)
