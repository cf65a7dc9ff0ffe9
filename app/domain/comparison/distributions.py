"""Student's t, the normal and the binomial distribution, by scipy. It is loaded on first use: loading takes a tenth of
a server's start, and most pages do not need it.
"""

from functools import cache
from typing import Any


def t_below(degrees_of_freedom: float, t: float) -> float:
    """Probability that Student's t is at most `t`."""
    return float(_special().stdtr(degrees_of_freedom, t))


def t_quantile(degrees_of_freedom: float, probability: float) -> float:
    """Quantile of Student's t."""
    return float(_special().stdtrit(degrees_of_freedom, probability))


def normal_quantile(probability: float) -> float:
    """Quantile of the standard normal."""
    return float(_special().ndtri(probability))


def chi_square_quantile(degrees_of_freedom: float, probability: float) -> float:
    """Quantile of the χ² distribution."""
    return float(_special().chdtri(degrees_of_freedom, 1 - probability))


def binomial_below(successes: int, trials: int, probability: float) -> float:
    """Probability of at most so many successes in `trials`, each with that probability."""
    return float(_special().bdtr(successes, trials, probability))


@cache
def _special() -> Any:
    from scipy import special  # noqa: PLC0415

    return special
