"""A/A studies: two arms that do not differ by construction, drawn from stored item scores.

A study takes two seeds of one arm, draws test items with replacement, and tosses a coin for each drawn item: it decides
which of the two seeds counts as A. So neither A nor B can be better, whatever the seeds are, and every lead is chance.
The interval is that of `app.domain.comparison.statistics.intervals.difference` with one seed in each arm: D ±
t(n−1)·√v_i."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.domain.comparison.statistics.intervals import CONFIDENCE, ROUNDING, Scores, as_scores, student, value_range

STUDIES = 1000
SIZES = (50, 100, 200)
"""Numbers of test items, before that of all items."""
LEAD = 0.02
"""A lead that people would report: 2 points."""
LARGEST_SEED = 999_999
MOST_ITEMS = 5_000
"""Of a larger test set, so many are drawn: it takes a second."""
CHUNK = 250_000
"""Values that are drawn at a time."""


@dataclass(frozen=True)
class NullStudies:
    """Many A/A studies with one number of test items."""

    items: int
    leads: NDArray[np.float64]
    """[K], A minus B, a fraction."""
    excludes: NDArray[np.bool_]
    """[K], the 95 % interval of the paired difference excludes 0."""

    @property
    def winners(self) -> float:
        """Share in which the higher score would name a winner."""
        return float((np.abs(self.leads) > ROUNDING).mean())

    @property
    def leading(self) -> float:
        """Share with a lead of `LEAD` or more."""
        return float((np.abs(self.leads) >= LEAD - ROUNDING).mean())

    @property
    def excluded(self) -> float:
        """Share whose interval excludes 0."""
        return float(self.excludes.mean())

    @property
    def width(self) -> float:
        """The lead that 95 % of the studies stay below or reach, a fraction."""
        return float(np.quantile(np.abs(self.leads), CONFIDENCE, method="inverted_cdf"))


def sizes(items: int) -> tuple[int, ...]:
    """Numbers of test items to draw, of a test set with so many: all of them come last."""
    return (*(size for size in SIZES if size < items), min(items, MOST_ITEMS))


def null_studies(scores: Scores, items: int, seed: int, studies: int = STUDIES) -> NullStudies:
    """A/A studies with `items` test items of [S, N] scores; the same seed draws the same. ValueError for fewer than two
    seeds or items."""
    scores = as_scores(scores)
    if scores.shape[0] < 2 or items < 2:
        raise ValueError(f"an A/A study needs two seeds and two items; there are {scores.shape[0]} and {items}")
    random = np.random.default_rng([seed, items])
    parts = [_draw(scores, items, count, random) for count in _counts(studies, max(1, CHUNK // items))]
    return NullStudies(items, *(np.concatenate(part) for part in zip(*parts, strict=True)))


def _draw(
    scores: Scores, items: int, studies: int, random: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Leads, and whether the interval excludes 0; both [studies]."""
    seeds, existing = scores.shape
    first = random.integers(seeds, size=(studies, 1))
    second = (first + random.integers(1, seeds, size=(studies, 1))) % seeds
    drawn = random.integers(existing, size=(studies, items))
    one, other = scores[first, drawn], scores[second, drawn]
    differences = (one - other) * random.choice([-1.0, 1.0], size=(studies, items))
    leads, deviation = differences.mean(axis=1), differences.std(axis=1, ddof=1)
    unit = np.array([value_range(a, b) for a, b in zip(one, other, strict=True)])
    known = deviation > ROUNDING * unit
    half = student(CONFIDENCE, items - 1) * np.where(known, deviation / np.sqrt(items), unit / items)
    return leads, np.abs(leads) > half


def _counts(studies: int, most: int) -> Iterator[int]:
    while studies > 0:
        yield min(most, studies)
        studies -= most
