"""Quantiles and probabilities, beside published tables and scipy's."""

import random
from math import inf, isnan

import pytest
from scipy import special

from app.domain.comparison.statistics.distributions import (
    binomial_below,
    chi_square_quantile,
    normal_quantile,
    t_below,
    t_quantile,
)


def test_they_are_those_of_the_tables() -> None:
    assert t_quantile(10, 0.975) == pytest.approx(2.228, abs=5e-4)
    assert t_below(10, 2.228) == pytest.approx(0.975, abs=5e-5)
    assert normal_quantile(0.975) == pytest.approx(1.959964, abs=5e-7)
    assert binomial_below(2, 10, 0.5) == pytest.approx(56 / 1024)
    assert chi_square_quantile(3, 0.95) == pytest.approx(7.815, abs=5e-4)


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


def test_they_have_ends() -> None:
    assert (t_below(5, inf), t_below(5, -inf), t_below(inf, 0), t_quantile(7, 0.5)) == (1, 0, 0.5, 0)
    assert (t_quantile(5, 0), t_quantile(5, 1), normal_quantile(0), normal_quantile(1)) == (-inf, inf, -inf, inf)
    assert t_quantile(inf, 0.975) == pytest.approx(1.959964, abs=5e-7)
    assert (chi_square_quantile(4, 0), chi_square_quantile(4, 1)) == (0, inf)
    assert (binomial_below(3, 3, 0.2), binomial_below(0, 3, 1.0), binomial_below(0, 0, 0.5)) == (1, 0, 1)
    assert isnan(t_quantile(-1, 0.9)) and isnan(t_below(0, 1)) and isnan(binomial_below(4, 3, 0.5))
