"""Student's t, the normal and the binomial distribution, by scipy, which is loaded with the first number that is asked
for: it takes a tenth of a server's start, and most pages need none of it.
"""

from functools import cache
from typing import Any


def t_below(degrees_of_freedom: float, t: float) -> float:
    """How likely Student's t is at most `t`."""
    return float(_special().stdtr(degrees_of_freedom, t))


def t_quantile(degrees_of_freedom: float, probability: float) -> float:
    """What Student's t is at most with that probability."""
    return float(_special().stdtrit(degrees_of_freedom, probability))


def normal_quantile(probability: float) -> float:
    """What the standard normal is at most with that probability."""
    return float(_special().ndtri(probability))


def binomial_below(successes: int, trials: int, probability: float) -> float:
    """How likely so many successes or fewer are, each of `trials` one with that probability."""
    return float(_special().bdtr(successes, trials, probability))


@cache
def _special() -> Any:
    from scipy import special  # noqa: PLC0415

    return special
