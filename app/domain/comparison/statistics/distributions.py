"""Student's t, the normal, the χ² and the binomial distribution, without scipy: its 143 MB would be a fifth of the web
server's image, for these five functions.

    I(a, b, x)   regularized incomplete beta    (DLMF 8.17.22, a continued fraction)    t and binomial follow from it
    P(a, x)      regularized incomplete gamma   (DLMF 8.11.4, a series)                 χ² follows from it

The fraction is evaluated by Lentz's method (Thompson and Barnett 1986), quantiles by Newton's method or bisection.
"""

from collections.abc import Callable
from functools import lru_cache
from math import exp, inf, isnan, lgamma, log, log1p, nan, pi
from statistics import NormalDist

MOST_TERMS = 20_000
CLOSE = 1e-16
WIDTH, PRECISE, MOST_STEPS = 4e-16, 1e-13, 200
TINY = 1e-300
"""Takes the place of a denominator that is 0."""
KEPT = 4096


def t_below(degrees_of_freedom: float, t: float) -> float:
    """Probability that Student's t is at most `t`."""
    if not degrees_of_freedom > 0 or isnan(t):
        return nan
    if degrees_of_freedom == inf or abs(t) == inf:
        return NormalDist().cdf(t)
    square = t * t
    tail = incomplete_beta(degrees_of_freedom / 2, 0.5, degrees_of_freedom, square) / 2
    return tail if t < 0 else 1 - tail


@lru_cache(KEPT)
def t_quantile(degrees_of_freedom: float, probability: float) -> float:
    if not (degrees_of_freedom > 0 and 0 <= probability <= 1):
        return nan
    if degrees_of_freedom == inf:
        return normal_quantile(probability)
    if probability == 0.5:
        return 0.0
    tail, df = min(probability, 1 - probability), degrees_of_freedom
    if tail == 0:
        return -inf if probability == 0 else inf
    size = -normal_quantile(tail)  # below the answer, and the tail is convex: Newton's steps never pass it
    ln_scale = lgamma((df + 1) / 2) - lgamma(df / 2) - log(df * pi) / 2
    for _ in range(MOST_STEPS):
        step = (t_below(df, -size) - tail) / exp(ln_scale - (df + 1) / 2 * log1p(size * size / df))
        size += step
        if abs(step) < PRECISE * size:
            break
    return -size if probability < 0.5 else size


def normal_quantile(probability: float) -> float:
    if 0 < probability < 1:
        return NormalDist().inv_cdf(probability)
    return -inf if probability == 0 else inf if probability == 1 else nan


@lru_cache(KEPT)
def chi_square_quantile(degrees_of_freedom: float, probability: float) -> float:
    if not (degrees_of_freedom > 0 and 0 <= probability <= 1):
        return nan
    return _crossing(lambda x: 1 - incomplete_gamma(degrees_of_freedom / 2, x / 2), 1 - probability)


def binomial_below(successes: int, trials: int, probability: float) -> float:
    """Probability of at most so many successes in `trials`, each with that probability."""
    if not (0 <= successes <= trials and 0 <= probability <= 1):
        return nan
    if successes == trials or probability == 0:
        return 1.0
    return incomplete_beta(trials - successes, successes + 1, 1 - probability, probability)


def incomplete_beta(a: float, b: float, x: float, rest: float) -> float:
    """I(a, b, x / (x + rest)). Both parts are given, since 1 - x would lose the digits of a small one."""
    share, other = x / (x + rest), rest / (x + rest)
    if share == 0 or other == 0:
        return 0.0 if share == 0 else 1.0
    if share > (a + 1) / (a + b + 2):  # the fraction converges fast on one side only
        return 1 - incomplete_beta(b, a, rest, x)
    ln_x = log1p(-other) if other < 0.5 else log(share)
    ln_rest = log1p(-share) if share < 0.5 else log(other)
    front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * ln_x + b * ln_rest) / a
    c, d = 1.0, 1 / _nonzero(1 - (a + b) * share / (a + 1))
    fraction = d
    for m in range(1, MOST_TERMS):
        even = m * (b - m) * share / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * share / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            c, d = _nonzero(1 + term / c), 1 / _nonzero(1 + term * d)
            fraction *= c * d
        if abs(c * d - 1) < CLOSE:
            break
    return min(1.0, front * fraction)


def incomplete_gamma(a: float, x: float) -> float:
    """P(a, x), by a series of positive terms."""
    if x <= 0:
        return 0.0
    term = total = 1 / a
    for n in range(1, MOST_TERMS):
        term *= x / (a + n)
        total += term
        if term < total * CLOSE:
            break
    return min(1.0, total * exp(a * log(x) - x - lgamma(a)))


def _nonzero(value: float) -> float:
    return value if abs(value) > TINY else TINY


def _crossing(falling: Callable[[float], float], level: float) -> float:
    """Where a function that falls from at most 1 at 0 to 0 takes a level."""
    if level <= 0:
        return inf
    low, high = 0.0, 1.0
    while falling(high) > level:
        low, high = high, 2 * high
        if high > 1e150:
            return inf
    while high - low > WIDTH * high:
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > level else (low, middle)
    return (low + high) / 2
