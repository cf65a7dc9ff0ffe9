"""Intervals of shares, against published numbers and against simulation."""

import numpy as np
import pytest

from app.domain.comparison.statistics.proportions import newcombe, wilson

# Newcombe 1998, table II, method 10: x₁/n₁, x₂/n₂ and the interval
PUBLISHED = [
    ((56, 70), (48, 80), (0.0524, 0.3339)),
    ((9, 10), (3, 10), (0.1705, 0.8090)),
    ((6, 7), (2, 7), (0.0582, 0.8062)),
    ((5, 56), (0, 29), (-0.0381, 0.1926)),
    ((0, 10), (0, 20), (-0.1611, 0.2775)),
    ((0, 10), (0, 10), (-0.2775, 0.2775)),
    ((10, 10), (0, 20), (0.6791, 1.0)),
    ((10, 10), (0, 10), (0.6075, 1.0)),
]


@pytest.mark.parametrize(("one", "other", "interval"), PUBLISHED)
def test_a_difference_of_shares_has_the_published_interval(
    one: tuple[int, int], other: tuple[int, int], interval: tuple[float, float]
) -> None:
    found = newcombe(one[0] / one[1], one[1], other[0] / other[1], other[1])
    assert (found.low, found.high) == pytest.approx(interval, abs=5e-5)


def test_wilson_is_that_of_the_textbook_and_stays_between_0_and_1() -> None:
    found = wilson(81 / 263, 263)  # Newcombe 1998, "Two-sided confidence intervals for the single proportion"
    assert (found.low, found.high) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0.0, 20).low == 0.0
    assert wilson(1.0, 20).high == 1.0


def test_what_is_no_share_is_refused() -> None:
    with pytest.raises(ValueError, match="is not a proportion"):
        wilson(0.5, 0)
    with pytest.raises(ValueError, match="is not a proportion"):
        wilson(1.5, 10)


def test_on_shared_items_it_covers_more_often_than_it_says() -> None:
    """Two arms that mostly fail on the same items: the interval that takes them as independent is wide."""
    chance, missed = np.random.default_rng(0), 0
    for _trial in range(1000):
        hard = chance.uniform(size=300)
        one, other = (0.7 * hard + 0.3 * chance.uniform(size=300) for _arm in range(2))
        missed += newcombe(float((one > 0.5).mean()), 300, float((other > 0.5).mean()), 300).excludes_zero
    assert missed <= 10
