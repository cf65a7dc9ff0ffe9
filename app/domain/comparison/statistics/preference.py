"""Blind comparison by people: which of two runs' answers they prefer, without knowing which run wrote which.

    v       of an item: 1 if the first run's answer is preferred, −1 if the second's, 0 if they are equally good; the
            mean over its raters; 0 without a rating if both texts are equal
    D       mean of v over the items, with its paired interval and the margin as for any metric: a score of an item is
            (1 + v) / 2 for the first run and (1 − v) / 2 for the second; items of one input or group are one cluster

Everybody rates the items in one random order, so those that were rated so far are a random sample of the test split,
once the items with equal texts among them are counted. The side of each answer is drawn for each rater and item.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from app.domain.comparison.statistics.clusters import Clusters
from app.domain.comparison.statistics.intervals import CONFIDENCE, Difference, difference
from app.domain.comparison.statistics.verdict import VerdictKind, word
from app.domain.studies.alternative import Alternative


class Preferred(StrEnum):
    FIRST = "first"
    SECOND = "second"
    TIE = "tie"

    @property
    def value_of_first(self) -> float:
        """v of one rating."""
        return {Preferred.FIRST: 1.0, Preferred.SECOND: -1.0, Preferred.TIE: 0.0}[self]


class Side(StrEnum):
    """Where the better answer stands, as a rater sees the two."""

    LEFT = "left"
    RIGHT = "right"
    TIE = "tie"


@dataclass(frozen=True)
class Rating:
    item: str
    preferred: Preferred


@dataclass(frozen=True)
class BlindItem:
    """A test item with two answers."""

    item: str
    prompt: str
    first: str
    second: str

    @property
    def alike(self) -> bool:
        """The texts are equal, but for white space at the ends: no preference is possible."""
        return self.first.strip() == self.second.strip()


@dataclass(frozen=True)
class Preference:
    """The preference so far, of the first run over the second."""

    items: int
    """Rated, or alike among these."""
    rated: int
    ratings: int
    """At least one for each rated item."""
    first: int
    """Ratings that prefer the first run's answer."""
    second: int
    difference: Difference | None
    """None before two items count, of different inputs and groups."""
    margin: float
    verdict: VerdictKind
    """`within`, `better` (the first run is preferred), `worse`, `undecided`, or `none`."""


def ordered(items: Iterable[BlindItem], pair: tuple[int, int]) -> list[BlindItem]:
    """The items in the random order of a pair of runs, which is the same for every rater."""
    return sorted(items, key=lambda item: _hash(pair, item.item))


def first_is_left(pair: tuple[int, int], item: str, rater: int | None) -> bool:
    """Whether the first run's answer stands on the left."""
    return int(_hash(pair, item, "side", rater)[:8], 16) % 2 == 0


def sides(item: BlindItem, pair: tuple[int, int], rater: int | None) -> tuple[str, str]:
    """The two answers as a rater sees them, left and right."""
    return (item.first, item.second) if first_is_left(pair, item.item, rater) else (item.second, item.first)


def preferred_at(side: Side, pair: tuple[int, int], item: str, rater: int | None) -> Preferred:
    """The answer that a rater chose by its side."""
    if side is Side.TIE:
        return Preferred.TIE
    return Preferred.FIRST if (side is Side.LEFT) == first_is_left(pair, item, rater) else Preferred.SECOND


def preference(items: Sequence[BlindItem], ratings: Iterable[Rating], margin: float) -> Preference:
    """The preference, from the items in their random order and all ratings of them."""
    given_ratings = list(ratings)
    by_item = _by_item(given_ratings)
    known = [one for item in items for one in by_item.get(item.item, [])]
    rated = counted(items, given_ratings)
    values, clusters = [sum(given) / len(given) for given in rated.values()], Clusters.of_items(rated)
    interval = None
    if (len(clusters) if clusters else len(values)) > 1:
        v = np.asarray(values)[None, :]
        interval = difference((1 + v) / 2, (1 - v) / 2, CONFIDENCE, clusters)
    return Preference(
        items=len(values),
        rated=sum(item.item in by_item for item in items),
        ratings=len(known),
        first=known.count(Preferred.FIRST),
        second=known.count(Preferred.SECOND),
        difference=interval,
        margin=margin,
        verdict=word(*interval.limits, margin, Alternative.EQUIVALENCE)[0] if interval else VerdictKind.NONE,
    )


def counted(items: Sequence[BlindItem], ratings: Iterable[Rating]) -> dict[str, list[float]]:
    """v of each rating of the items up to the last that was rated, in their random order: of those rated, and 0 for
    those alike."""
    by_item = _by_item(ratings)
    last = max((place for place, item in enumerate(items) if item.item in by_item), default=-1)
    values = {}
    for item in items[: last + 1]:
        if given := by_item.get(item.item):
            values[item.item] = [rating.value_of_first for rating in given]
        elif item.alike:
            values[item.item] = [0.0]
    return values


def _by_item(ratings: Iterable[Rating]) -> dict[str, list[Preferred]]:
    by_item: dict[str, list[Preferred]] = {}
    for rating in ratings:
        by_item.setdefault(rating.item, []).append(rating.preferred)
    return by_item


def _hash(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()
