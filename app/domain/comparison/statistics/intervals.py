"""Intervals for a mean, and for the difference of two means, over test items and seeds that were both drawn by chance.

The idea: a run's score on one item is

    mean + what the item does + what the seed does + what is left,

and had we drawn other items or other seeds the mean would have come out differently. Items and seeds are crossed
(every seed is tested on every item), so each source's variance can be read from the same matrix: crossed random
effects (Cornfield & Tukey 1956, "Average values of mean squares in factorials"; Brennan 2001, *Generalizability
Theory*). A sum of variances, each known from few values, is treated as one variance with the degrees of freedom of
Satterthwaite 1946, and the interval is Student's.

For an arm x with S seeds and N items, X is [S, N]:

    v_x = variance over seeds of the mean of x                      what another seed would change (÷ S: of the arm)
    e_x = mean square of the two-way residuals of X                 what neither item nor seed explains
    v_i = variance over items of (mean_s X_a − mean_s X_b), ÷ N     what other items would change
    V   = v_i + v_a/S_a + v_b/S_b − e_a/(N S_a) − e_b/(N S_b)       e is in v_i and in v_x; V is never below v_i
    df  = V² / Σ part² / (degrees of freedom of the part)
    D ± t(df)·√V

Items with equal inputs are not independent. They form clusters: then v_i and e_x come from sums over clusters, and
degrees of freedom from their number (`app.domain.comparison.statistics.clusters`). Seeds are independent between the
arms: pairing them buys little and costs degrees of freedom. All numbers are in the metric's own unit (0.02 is 2 points
of accuracy), variances in its square. A higher metric is better; give a loss with its sign turned."""

from dataclasses import dataclass, replace
from math import inf, isfinite, sqrt

import numpy as np
from numpy.typing import NDArray

from app.domain.comparison.statistics.clusters import Clusters
from app.domain.comparison.statistics.distributions import t_below, t_quantile

Scores = NDArray[np.float64]
"""[S, N], seeds × test items: the metric of each item (1 right, 0 wrong; any float works)."""

CONFIDENCE = 0.95
INTERIM_LOOK_FACTOR = 0.2
"""The error rate of each further interim look at a study that has grown, as a share of that of the look before."""
ROUNDING = 1e-9
"""A standard deviation below this share of the scores' range is rounding, not chance."""


SCORES = (0.0, 1.0)
"""The range of every metric that a verdict rests on. Intervals end there; a wider one carries no information."""
DIFFERENCES = (-1.0, 1.0)
"""Range of differences of such scores."""
UNLIMITED = (-inf, inf)
"""Range of a quantity without bounds, such as a loss."""


@dataclass(frozen=True)
class ScoreInterval:
    """An arm's mean score, with its interval over items and seeds."""

    mean: float
    low: float
    """Within the range of the score, as `high`."""
    high: float
    seeds: int
    """1: the interval covers the items only."""
    items: int | None
    """1, or None where their number is unknown: nothing is known of other items."""
    usable: bool = True
    """Before it was clipped the interval was no wider than the range of the score."""

    @property
    def reversed(self) -> "ScoreInterval":
        """With the opposite sign: b − a of a − b."""
        return replace(self, mean=-self.mean, low=-self.high, high=-self.low)


@dataclass(frozen=True)
class Difference:
    """An arm's mean minus the reference's, on the same items, with its interval."""

    delta: float
    confidence: float
    """0.95 is 95 %."""
    variance: float
    """Variance V of `delta`."""
    degrees_of_freedom: float
    items: int
    seeds: int
    reference_seeds: int
    item_variance: float
    """v_i, of `delta`."""
    seed_variance: float
    """v_a, of one run's mean; 0 with one seed, where it is unknown."""
    reference_seed_variance: float
    residual: float
    """e_a, of one score; 0 with one seed."""
    reference_residual: float
    item_degrees_of_freedom: float
    """N − 1, or fewer where items form clusters."""
    clusters: int | None = None
    """How many clusters the items form; None where each is its own."""

    @property
    def half_width(self) -> float:
        """t·√V; infinite with one item."""
        return student(self.confidence, self.degrees_of_freedom) * sqrt(self.variance)

    @property
    def limits(self) -> tuple[float, float]:
        """The interval before it is clipped: what is decided by a margin rests on it."""
        half = self.half_width
        return self.delta - half, self.delta + half

    @property
    def low(self) -> float:
        """Lower end of the interval, clipped at the range of a difference. That moves no end across 0."""
        return max(self.limits[0], DIFFERENCES[0])

    @property
    def high(self) -> float:
        """Upper end, clipped too."""
        return min(self.limits[1], DIFFERENCES[1])

    @property
    def usable(self) -> bool:
        """The interval is no wider than the range of a difference."""
        return within_range(self.half_width, DIFFERENCES)

    @property
    def excludes_zero(self) -> bool:
        """The arms differ, at this confidence."""
        return self.low > 0 or self.high < 0

    @property
    def p_value(self) -> float:
        """Two-sided, of no difference: below 1 − confidence just when the interval excludes 0."""
        return self.p_value_outside(0.0)

    def p_value_outside(self, below: float) -> float:
        """Two-sided, of a difference from `below` (at most 0) up to 0: under 1 − confidence just when the interval lies
        outside that range."""
        sd, df = sqrt(self.variance), self.degrees_of_freedom
        return 2 * min(t_below(df, -self.delta / sd), t_below(df, (self.delta - below) / sd))

    @property
    def one_seed(self) -> bool:
        """An arm has one seed, so the interval covers the items only and may be far too narrow."""
        return min(self.seeds, self.reference_seeds) < 2

    def at(self, confidence: float) -> "Difference":
        return replace(self, confidence=confidence)


def within_range(half_width: float, span: tuple[float, float]) -> bool:
    """An interval of this half-width is no wider than the range."""
    return 2 * half_width <= span[1] - span[0]


def score_interval(
    scores: Scores,
    confidence: float = CONFIDENCE,
    clusters: Clusters | None = None,
    span: tuple[float, float] = SCORES,
) -> ScoreInterval:
    """An arm's mean and interval from [S, N] scores; ValueError if they are not such a matrix. `clusters`: of the
    items, where they are not independent. `span`: the range of the scores, at which the interval is clipped."""
    scores = as_scores(scores)
    seeds, items = scores.shape
    mean, item_df = float(scores.mean()), item_degrees_of_freedom(items, clusters)
    item = item_variance(scores.mean(axis=0), value_range(scores), clusters)
    seed, residual = seed_variance(scores), residual_mean_square(scores, clusters)
    variance = total_variance(item, seed / seeds, residual / (items * seeds))
    df = satterthwaite(
        variance,
        (item, item_df),
        (seed / seeds, seeds - 1),
        (residual / (items * seeds), (seeds - 1) * item_df),
    )
    half = student(confidence, df) * sqrt(variance)
    return ScoreInterval(
        mean=mean,
        low=max(mean - half, span[0]),
        high=min(mean + half, span[1]),
        seeds=seeds,
        items=items,
        usable=within_range(half, span),
    )


def difference(
    arm: Scores, reference: Scores, confidence: float = CONFIDENCE, clusters: Clusters | None = None
) -> Difference:
    """The interval of arm − reference, from [S_a, N] and [S_b, N] scores on the same items in the same order.

    With one seed in either arm only the items' part is known: V = v_i, and `one_seed` says so. With one item V is
    infinite, and with one cluster too. ValueError if the matrices do not fit each other.
    """
    a, b = as_scores(arm), as_scores(reference)
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"the arms were tested on {a.shape[1]} and {b.shape[1]} items: they must be the same items")
    (seeds_a, items), seeds_b = a.shape, b.shape[0]
    v_i = item_variance(a.mean(axis=0) - b.mean(axis=0), value_range(a, b), clusters)
    item_df = item_degrees_of_freedom(items, clusters)
    v_a, v_b = seed_variance(a), seed_variance(b)
    e_a, e_b = residual_mean_square(a, clusters), residual_mean_square(b, clusters)
    if min(seeds_a, seeds_b) > 1:
        variance, df = spread(v_i, items, (v_a, e_a, seeds_a), (v_b, e_b, seeds_b), item_df)
    else:
        variance, df = v_i, max(item_df, 1.0)
    return Difference(
        delta=float(a.mean() - b.mean()),
        confidence=confidence,
        variance=variance,
        degrees_of_freedom=df,
        items=items,
        seeds=seeds_a,
        reference_seeds=seeds_b,
        item_variance=v_i,
        seed_variance=v_a,
        reference_seed_variance=v_b,
        residual=e_a,
        reference_residual=e_b,
        item_degrees_of_freedom=item_df,
        clusters=len(clusters) if clusters else None,
    )


def spread(
    v_i: float,
    items: int,
    arm: tuple[float, float, int],
    reference: tuple[float, float, int],
    item_df: float | None = None,
) -> tuple[float, float]:
    """V and its degrees of freedom, from v_i and each arm's (v, e, seeds); two seeds or more in both. `item_df`: of
    v_i, N − 1 unless items form clusters."""
    (v_a, e_a, seeds_a), (v_b, e_b, seeds_b) = arm, reference
    item_df = items - 1 if item_df is None else item_df
    seed_a, seed_b = v_a / seeds_a, v_b / seeds_b
    left_a, left_b = e_a / (items * seeds_a), e_b / (items * seeds_b)
    variance = total_variance(v_i, seed_a + seed_b, left_a + left_b)
    seed_parts = [(seed_a, seeds_a - 1), (seed_b, seeds_b - 1)]
    left_parts = [(left_a, (seeds_a - 1) * item_df), (left_b, (seeds_b - 1) * item_df)]
    return variance, satterthwaite(variance, (v_i, item_df), *seed_parts, *left_parts)


def total_variance(item: float, seed: float, residual: float) -> float:
    """V = v_i + Σ v_x/S_x − Σ e_x/(N S_x), never below v_i."""
    return max(item, item + seed - residual)


def satterthwaite(variance: float, *parts: tuple[float, float]) -> float:
    """V² / Σ part²/df: the degrees of freedom of a sum of variances. At least 1, the fewest that any part has."""
    if not isfinite(variance):
        return 1.0
    # One term a part, smallest first: a sum that does not depend on which arm is named first.
    terms = sorted(part**2 / df for part, df in parts if df > 0)
    total = sum(terms)
    return max(variance**2 / total, 1.0) if total > 0 else 1.0


def student(confidence: float, df: float) -> float:
    """Student's t that a share `confidence` of the distribution lies within."""
    return t_quantile(df, (1 + confidence) / 2)


def seed_variance(scores: Scores) -> float:
    """v: variance over seeds of the arm's mean; 0 with one seed."""
    return float(scores.mean(axis=1).var(ddof=1)) if scores.shape[0] > 1 else 0.0


def residual_mean_square(scores: Scores, clusters: Clusters | None = None) -> float:
    """e: mean square of X − row mean − column mean + mean, over (S−1)(N−1) degrees of freedom; 0 if there are none. Of
    clusters it is N times what these residuals, which are alike on copies of an item, add to the variance of a mean."""
    seeds, items = scores.shape
    if seeds < 2 or _independent(items, clusters) < 2:
        return 0.0
    left = scores - scores.mean(axis=1, keepdims=True) - scores.mean(axis=0) + scores.mean()
    if clusters:
        return clusters.sum_of_squares(left) / float((seeds - 1) * items)
    return float((left**2).sum() / ((seeds - 1) * (items - 1)))


def item_variance(values: NDArray[np.float64], unit: float, clusters: Clusters | None = None) -> float:
    """v_i: variance over items of [N] values, ÷ N, or by the sums over clusters; infinite for one item or cluster.

    If all items agree (two arms that predict the same; all right) the sample has no variance, which does not prove that
    the population has none. It is then taken as though one item in N were off by one `unit`: (unit/N)²; or one cluster.
    """
    items = len(values)
    independent = _independent(items, clusters)
    if independent < 2:
        return inf
    variance = float(values.var(ddof=1))
    if variance <= (ROUNDING * unit) ** 2:
        return (unit / independent) ** 2
    return clusters.sum_of_squares(values - values.mean()) / float(items) ** 2 if clusters else variance / items


def item_degrees_of_freedom(items: int, clusters: Clusters | None) -> float:
    return float(clusters.degrees_of_freedom) if clusters else items - 1.0


def _independent(items: int, clusters: Clusters | None) -> int:
    return len(clusters) if clusters else items


def value_range(*scores: Scores) -> float:
    """The range of the observed scores, which is 1 where items are right or wrong; 1 if they are all the same."""
    span = float(max(s.max() for s in scores) - min(s.min() for s in scores))
    return span if span > 0 else 1.0


def as_scores(scores: Scores) -> Scores:
    """Check that scores are [S, N] with a seed and an item at least, and finite; a ValueError says what is wrong."""
    matrix = np.asarray(scores, dtype=np.float64)
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise ValueError(f"scores are seeds × items with one of each at least; these have the shape {matrix.shape}")
    if not np.isfinite(matrix).all():
        raise ValueError("a score is not a finite number: an item without a score cannot be compared")
    return matrix
