"""Intervals for shares of which only the number of items is known: results from elsewhere, without scores of items.

Of one share, Wilson's score interval (Wilson 1927). Of the difference of two, Newcombe 1998 ("Interval estimation for
the difference between independent proportions", method 10), which puts two Wilson intervals together:

    d − √((p₁ − l₁)² + (u₂ − p₂)²)   to   d + √((u₁ − p₁)² + (p₂ − l₂)²)

It takes the items of the two as independent. They are the same items, and answers to the same items agree more often
than not, so the true interval is mostly narrower: this one errs on the side of saying nothing. It covers the items
only, not what another seed would change.
"""

from dataclasses import dataclass
from math import sqrt

from app.domain.comparison.distributions import normal_quantile
from app.domain.comparison.intervals import CONFIDENCE


@dataclass(frozen=True)
class Share:
    """A share of n items with its interval."""

    mean: float
    low: float
    high: float
    items: int


@dataclass(frozen=True)
class UnpairedDifference:
    """One share minus another, items taken as independent."""

    delta: float
    low: float
    high: float
    confidence: float
    items: int
    """Of the smaller one, where they differ."""

    @property
    def excludes_zero(self) -> bool:
        """They differ, at this confidence."""
        return self.low > 0 or self.high < 0


def wilson(mean: float, items: int, confidence: float = CONFIDENCE) -> Share:
    """Wilson's interval of a share `mean` of `items`. ValueError without an item, or for what is no share."""
    if items < 1 or not 0 <= mean <= 1:
        raise ValueError(f"{mean} of {items} items is no share")
    z = normal_quantile((1 + confidence) / 2)
    middle = (mean + z**2 / (2 * items)) / (1 + z**2 / items)
    half = z / (1 + z**2 / items) * sqrt(mean * (1 - mean) / items + z**2 / (4 * items**2))
    # Rounding must not put an end on the wrong side of the share itself.
    return Share(mean, min(mean, max(0.0, middle - half)), max(mean, min(1.0, middle + half)), items)


def newcombe(
    mean: float, items: int, other: float, other_items: int, confidence: float = CONFIDENCE
) -> UnpairedDifference:
    """The interval of `mean` − `other`."""
    a, b = wilson(mean, items, confidence), wilson(other, other_items, confidence)
    delta = mean - other
    return UnpairedDifference(
        delta=delta,
        low=delta - sqrt((mean - a.low) ** 2 + (b.high - other) ** 2),
        high=delta + sqrt((a.high - mean) ** 2 + (other - b.low) ** 2),
        confidence=confidence,
        items=min(items, other_items),
    )
