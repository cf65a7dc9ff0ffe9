"""The scales of a trade-off: known here and not left to Vega, since its labels are placed in pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log10
from typing import Any

from app.domain.comparison.costs.costs import Spread
from app.web.figures.drawing import grammar as alt

AIR = 0.13
"""Share of the values' span that is left free on both sides; of a logarithmic axis `LOG_AIR`."""
LOG_AIR = 0.08


@dataclass(frozen=True)
class Reach:
    """A value with the ends of its whisker, in the axis's unit."""

    at: float
    low: float
    high: float

    @classmethod
    def of(cls, spread: Spread, unit: float) -> Reach:
        """In an axis's unit."""
        return cls(spread.mean / unit, spread.low / unit, spread.high / unit)


@dataclass(frozen=True)
class Side:
    title: str
    higher: bool
    """Higher is better."""
    zero: bool
    """The scale begins at zero, unless it is logarithmic."""
    log: bool = False
    least: float | None = None
    most: float | None = None
    span: float = 0.0
    """The least that the axis spans."""


@dataclass(frozen=True)
class Domain:
    """From where to where an axis runs."""

    low: float
    high: float
    log: bool

    @classmethod
    def of(cls, side: Side, reaches: Sequence[Reach]) -> Domain:
        """Around the values with their whiskers; from zero, where nothing lies below it."""
        ends = [end for reach in reaches for end in (reach.low, reach.at, reach.high)] or [0.0, 1.0]
        if side.log and reaches:
            low, high = log10(min(ends)), log10(max(ends))
            air = LOG_AIR * ((high - low) or 0.2)
            return cls(10 ** (low - air), 10 ** (high + air), log=True)
        low, high = min(ends), max(ends)
        if side.zero:
            low, high = min(low, 0.0), max(high, 0.0)
        width = max(high - low, side.span) or abs(high) / 10 or 1.0
        middle = (low + high) / 2
        low, high = min(low, middle - width / 2) - AIR * width, max(high, middle + width / 2) + AIR * width
        least = 0.0 if side.zero else side.least
        low = low if least is None else max(low, least)
        return cls(low, high if side.most is None else min(high, side.most), log=False)

    def share(self, value: float) -> float:
        """How far along the axis a value lies, from 0 to 1."""
        if self.log:
            return log10(value / self.low) / log10(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def scale(self, **options: Any) -> alt.Scale:
        """For Vega: exactly this domain."""
        kind = {"type": "log"} if self.log else {"zero": False}
        return alt.Scale(domain=[self.low, self.high], nice=False, **kind, **options)
