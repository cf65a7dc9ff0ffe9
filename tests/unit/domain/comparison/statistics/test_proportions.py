"""Shares and distributions: against published values, tables and scipy."""

import random
from math import inf, isnan

import numpy as np
import pytest
from scipy import special

from app.domain.comparison.statistics.distributions import (
    binomial_below,
    chi_square_quantile,
    normal_quantile,
    t_below,
    t_quantile,
)
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
def test_the_published_interval(one: tuple[int, int], other: tuple[int, int], interval: tuple[float, float]) -> None:
    found = newcombe(one[0] / one[1], one[1], other[0] / other[1], other[1])
    assert (found.low, found.high) == pytest.approx(interval, abs=5e-5)


def test_wilson_is_that_of_the_textbook_and_refuses_what_is_no_share() -> None:
    found = wilson(81 / 263, 263)  # Newcombe 1998, "Two-sided confidence intervals for the single proportion"
    assert (found.low, found.high) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0.0, 20).low == 0.0
    assert wilson(1.0, 20).high == 1.0
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


def test_quantiles_are_those_of_tables_and_have_ends() -> None:
    assert t_quantile(10, 0.975) == pytest.approx(2.228, abs=5e-4)
    assert t_below(10, 2.228) == pytest.approx(0.975, abs=5e-5)
    assert normal_quantile(0.975) == pytest.approx(1.959964, abs=5e-7)
    assert binomial_below(2, 10, 0.5) == pytest.approx(56 / 1024)
    assert chi_square_quantile(3, 0.95) == pytest.approx(7.815, abs=5e-4)
    assert (t_below(5, inf), t_below(5, -inf), t_below(inf, 0), t_quantile(7, 0.5)) == (1, 0, 0.5, 0)
    assert (t_quantile(5, 0), t_quantile(5, 1), normal_quantile(0), normal_quantile(1)) == (-inf, inf, -inf, inf)
    assert t_quantile(inf, 0.975) == pytest.approx(1.959964, abs=5e-7)
    assert (chi_square_quantile(4, 0), chi_square_quantile(4, 1)) == (0, inf)
    assert (binomial_below(3, 3, 0.2), binomial_below(0, 3, 1.0), binomial_below(0, 0, 0.5)) == (1, 0, 1)
    assert isnan(t_quantile(-1, 0.9)) and isnan(t_below(0, 1)) and isnan(binomial_below(4, 3, 0.5))


def test_they_are_scipys_to_nine_digits() -> None:
    chance = random.Random(0)
    for _ in range(300):
        freedom, t, p = 10 ** chance.uniform(-0.3, 4), chance.gauss(0, 3), chance.uniform(1e-4, 1 - 1e-4)
        trials = chance.randint(1, 5000)
        successes = min(trials, max(0, round(chance.gauss(trials * p, 3 * (trials * p * (1 - p)) ** 0.5))))
        assert t_below(freedom, t) == pytest.approx(special.stdtr(freedom, t), rel=1e-9)
        assert t_quantile(freedom, p) == pytest.approx(special.stdtrit(freedom, p), rel=1e-9)
        assert normal_quantile(p) == pytest.approx(special.ndtri(p), rel=1e-9)
        assert binomial_below(successes, trials, p) == pytest.approx(special.bdtr(successes, trials, p), rel=1e-9)
        whole = chance.randint(1, 500)
        assert chi_square_quantile(whole, p) == pytest.approx(special.chdtri(whole, 1 - p), rel=1e-9)
