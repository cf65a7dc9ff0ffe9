"""Intervals for proportions, for imported results that have only the number of test items and no per-item scores.

For one proportion: Wilson's score interval (Wilson 1927). For the difference of two: Newcombe 1998 ("Interval
estimation for the difference between independent proportions", method 10), which combines two Wilson intervals:

    d − √((p₁ − l₁)² + (u₂ − p₂)²)   to   d + √((u₁ − p₁)² + (p₂ − l₂)²)

It treats the items of the two as independent. They are the same items, and answers to the same items tend to agree, so
the true interval is usually narrower: this one is conservative. It covers the items only, not the variance over seeds.
"""

from dataclasses import dataclass
from math import sqrt
from typing import ClassVar

from app.domain.comparison.statistics.distributions import normal_quantile
from app.domain.comparison.statistics.intervals import CONFIDENCE, ScoreInterval


@dataclass(frozen=True)
class UnpairedDifference:
    """One proportion minus another, with the items treated as independent."""

    delta: float
    low: float
    high: float
    confidence: float
    items: int
    """Items of the smaller test set, where they differ."""
    seeds: int = 1
    reference_seeds: int = 1
    usable: ClassVar[bool] = True
    """Newcombe's interval never exceeds the scale of a difference."""

    @property
    def half_width(self) -> float:
        """Half of the interval, which lies unevenly around `delta`."""
        return (self.high - self.low) / 2

    @property
    def one_seed(self) -> bool:
        return min(self.seeds, self.reference_seeds) < 2

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


def wilson(mean: float, items: int, confidence: float = CONFIDENCE) -> ScoreInterval:
    """Wilson's interval for the proportion `mean` of `items`. ValueError without an item, or outside 0 to 1."""
    if items < 1 or not 0 <= mean <= 1:
        raise ValueError(f"{mean} of {items} items is not a proportion")
    z = normal_quantile((1 + confidence) / 2)
    middle = (mean + z**2 / (2 * items)) / (1 + z**2 / items)
    half = z / (1 + z**2 / items) * sqrt(mean * (1 - mean) / items + z**2 / (4 * items**2))
    # Rounding must not put an end on the wrong side of the share itself.
    return ScoreInterval(
        mean, low=min(mean, max(0.0, middle - half)), high=max(mean, min(1.0, middle + half)), seeds=1, items=items
    )


def newcombe(
    mean: float,
    items: int,
    other: float,
    other_items: int,
    confidence: float = CONFIDENCE,
    seeds: tuple[int, int] = (1, 1),
) -> UnpairedDifference:
    """The interval of `mean` − `other`, each a mean over `seeds`."""
    a, b = wilson(mean, items, confidence), wilson(other, other_items, confidence)
    delta = mean - other
    return UnpairedDifference(
        delta=delta,
        low=delta - sqrt((mean - a.low) ** 2 + (b.high - other) ** 2),
        high=delta + sqrt((a.high - mean) ** 2 + (other - b.low) ** 2),
        confidence=confidence,
        items=min(items, other_items),
        seeds=seeds[0],
        reference_seeds=seeds[1],
    )
