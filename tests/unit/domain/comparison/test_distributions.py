"""Quantiles and probabilities, beside published tables."""

import pytest

from app.domain.comparison.distributions import binomial_below, normal_quantile, t_below, t_quantile


def test_they_are_those_of_the_tables() -> None:
    assert t_quantile(10, 0.975) == pytest.approx(2.228, abs=5e-4)
    assert t_below(10, 2.228) == pytest.approx(0.975, abs=5e-5)
    assert normal_quantile(0.975) == pytest.approx(1.959964, abs=5e-7)
    assert binomial_below(2, 10, 0.5) == pytest.approx(56 / 1024)
