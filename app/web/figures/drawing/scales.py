"""Axis domains and ticks from the data: round numbers, a little air, nothing hidden."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from math import ceil, floor, isfinite, log10
from typing import Any

from app.web.figures.drawing import grammar as alt

STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
LARGE = 1e5
"""From here on numbers are marked as `100k`."""


@dataclass(frozen=True)
class Domain:
    """From where to where an axis runs, and where it is marked."""

    low: float
    high: float
    step: float
    log: bool = False
    """Logarithmic; `step` then says nothing."""

    @classmethod
    def covering(
        cls,
        values: Iterable[float | None],
        *,
        ticks: int = 5,
        air: float = 0.06,
        least: float | None = None,
        most: float | None = None,
        at_least: float = 0.0,
    ) -> Domain:
        """A domain around the finite values, with `air` (a share of their span) on both sides, within [least, most].

        Where all values are the same, the domain is `at_least` wide (or a tenth of the value). `least` and `most` also
        are ends of the scale where the values come near them.
        """
        seen = [v for v in values if v is not None and isfinite(v)] or [0.0, 1.0]
        low, high = min(seen), max(seen)
        width = max(high - low, at_least, 1e-12 if high - low else abs(high) / 10 or 1.0)
        middle = (low + high) / 2
        low, high = min(low, middle - width / 2), max(high, middle + width / 2)
        low, high = low - air * width, high + air * width
        if least is not None:
            low = max(low, least)
        if most is not None:
            high = min(high, most)
        return cls(low, high, round_step((high - low) / ticks))

    @classmethod
    def logarithmic(cls, values: Iterable[float], *, air: float = 0.08) -> Domain:
        """A logarithmic domain around values, all above zero, with `air` (a share of their span) on both sides."""
        seen = list(values)
        low, high = log10(min(seen)), log10(max(seen))
        room = air * max(high - low, 0.3)
        return cls(10 ** (low - room), 10 ** (high + room), 1.0, log=True)

    @property
    def ticks(self) -> list[float]:
        """Round numbers within the domain."""
        if self.log:
            powers = range(floor(log10(self.low)), ceil(log10(self.high)) + 1)
            leads = (1, 2, 5) if len(powers) <= 3 else (1, 3) if len(powers) == 4 else (1,)
            marks = [lead * 10.0**power for power, lead in product(powers, leads)]
            return [mark for mark in marks if self.low <= mark <= self.high]
        first, last = ceil(self.low / self.step - 1e-9), floor(self.high / self.step + 1e-9)
        return [round(k * self.step, 12) for k in range(first, last + 1)]

    @property
    def format(self) -> str:
        """A d3 number format with the decimals that the step needs; large numbers are shortened."""
        if self.high >= LARGE:
            return "~s"
        if self.log:
            return ",.6~g" if self.low < 1 else ",.0f"
        decimals = max(0, -floor(log10(self.step) + 1e-9))
        if decimals == 0 and self.step % 1 > 1e-9:
            decimals = 1
        elif self.step * 10**decimals % 1 > 1e-6:
            decimals += 1
        return f",.{decimals}f"

    def pixel(self, value: float, length: float) -> float:
        """Distance from the axis's low end."""
        if self.log:
            return log10(value / self.low) / log10(self.high / self.low) * length
        return (value - self.low) / (self.high - self.low) * length

    def within(self, value: float) -> float:
        """The value, or the end of the axis that it lies beyond."""
        return min(max(value, self.low), self.high)

    def scale(self, **options: Any) -> alt.Scale:
        """For Vega: exactly this domain."""
        kind = {"type": "log"} if self.log else {"zero": False}
        return alt.Scale(domain=[self.low, self.high], nice=False, **kind, **options)

    def axis(self, **options: Any) -> alt.Axis:
        """For Vega: exactly these ticks."""
        return alt.Axis(values=self.ticks, format=self.format, **options)


def round_step(about: float) -> float:
    """The smallest of 1, 2, 2.5, 5 × 10ᵏ that is not below `about`."""
    power = 10.0 ** floor(log10(about)) if about > 0 else 1.0
    return next(s * power for s in STEPS if s * power >= about * (1 - 1e-9))
