"""Preferences of people: the order of the items, the sides, and the interval."""

from dataclasses import replace

import pytest

from app.domain.comparison.statistics.preference import BlindItem, Preferred, Rating, first_is_left, ordered, preference
from app.domain.comparison.statistics.verdict import VerdictKind
from app.domain.data.dataset import item_name
from app.domain.data.item_names import copy_name

PAIR = (3, 7)
FIRST, SECOND, TIE = Preferred.FIRST, Preferred.SECOND, Preferred.TIE


def items(number: int, alike: int = 0) -> list[BlindItem]:
    """Items in their random order; every so many have two equal answers."""
    made = [BlindItem(f"i{n}", "p", "a", " a " if alike and n % alike == 0 else "b") for n in range(number)]
    return ordered(made, PAIR)


def rated(order: list[BlindItem], number: int, *preferred: Preferred) -> list[Rating]:
    """Ratings of the first items whose answers differ, in turn."""
    differing = [item.item for item in order if not item.alike][:number]
    return [Rating(item, preferred[n % len(preferred)]) for n, item in enumerate(differing)]


def test_every_rater_sees_the_same_order_and_sides_of_their_own() -> None:
    order = items(200)
    assert ordered(order[::-1], PAIR) == order != ordered(order, (3, 8))
    sides = [[first_is_left(PAIR, item.item, rater) for item in order] for rater in (1, 2, None)]
    assert all(70 < sum(side) < 130 for side in sides) and sides[0] != sides[1] != sides[2]


@pytest.mark.parametrize(
    ("preferred", "verdict", "delta"),
    [
        ((FIRST,), VerdictKind.BETTER, 1.0),
        ((SECOND,), VerdictKind.WORSE, -1.0),
        ((TIE,), VerdictKind.WITHIN, 0.0),
        ((FIRST, SECOND, TIE), VerdictKind.UNDECIDED, 0.0),
        ((FIRST, FIRST, SECOND), VerdictKind.BETTER, 1 / 3),
    ],
)
def test_the_interval_and_the_margin_decide(
    preferred: tuple[Preferred, ...], verdict: VerdictKind, delta: float
) -> None:
    order = items(300)
    found = preference(order, rated(order, 300, *preferred), 0.02)
    assert found.difference is not None
    assert (found.items, found.rated, found.ratings) == (300, 300, 300)
    assert found.difference.delta == pytest.approx(delta) and found.verdict is verdict


def test_equal_answers_among_the_rated_items_count_as_ties_and_later_items_do_not() -> None:
    order = items(400, alike=2)
    found = preference(order, rated(order, 50, FIRST), 0.02)
    assert found.rated == 50 and 70 < found.items < 140
    assert found.difference is not None
    assert found.difference.delta == pytest.approx(50 / found.items)


def test_several_raters_of_an_item_are_averaged() -> None:
    order = items(100)
    found = preference(order, [*rated(order, 100, FIRST), *rated(order, 100, SECOND)], 0.02)
    assert found.difference is not None
    assert (found.ratings, found.first, found.second, found.difference.delta) == (200, 100, 100, 0.0)
    assert found.verdict is VerdictKind.WITHIN


def test_without_ratings_there_is_no_interval() -> None:
    order = items(10, alike=1)
    assert preference(order, [], 0.02).verdict is VerdictKind.NONE
    one = items(10)
    assert preference(one, rated(one, 1, FIRST), 0.02).difference is None


def test_ratings_of_one_input_are_one_cluster() -> None:
    once = [BlindItem(item_name(f"i{n}"), "p", "a", "b") for n in range(40)]
    copied = [replace(item, item=copy_name(item.item, copy)) for item in once for copy in range(3)]

    def of(blind: list[BlindItem]) -> tuple[float, float]:
        ratings = [Rating(item.item, FIRST if int(item.item[:4], 16) % 3 else SECOND) for item in blind]
        found = preference(blind, ratings, 0.02).difference
        assert found is not None
        return found.low, found.high

    assert of(copied) == pytest.approx(of(once))
    alone = [Rating(item.item, FIRST) for item in copied[:3]]
    assert preference(copied, alone, 0.02).difference is None, "three copies of one item"
