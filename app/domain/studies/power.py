"""Power analysis: the seeds or test items that an undecided study requires, and what a planned study can detect.

Both put variance components into the interval of `app.domain.comparison.statistics.intervals`: the observed ones, or
before any run the assumed ones below. The seeds' component shrinks with S, the items' with N, the residual with both.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from math import floor, isfinite, log, sqrt
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from app.domain.comparison.statistics.clusters import Clusters
from app.domain.comparison.statistics.distributions import chi_square_quantile
from app.domain.comparison.statistics.intervals import (
    CONFIDENCE,
    INTERIM_LOOK_FACTOR,
    Difference,
    Scores,
    item_variance,
    spread,
    student,
)
from app.domain.studies.alternative import Alternative
from app.domain.tasks import MetricName

MOST_SEEDS = 100
MOST_ITEMS = 1_000_000
SEEDS_TRIED = (3, 4, 5, 6, 8, 10, 12, 15, 20, 30, 50, MOST_SEEDS)
"""Where seeds and items are both to grow."""

DF_STEP = 1.03
QUANTILES = 20
"""At which the distribution of an estimated seed variance is taken."""

SCORE = 0.9
"""Assumed of a metric whose items are right or wrong."""
GRADED_SCORE = 0.5
"""Assumed of a metric whose items have values from 0 to 1."""
SEED_SD = 0.004
"""Assumed: sd over seeds of an arm's score on endless items. On 650 items that makes 0.7 points from run to run."""
DISAGREEMENT = 0.6
"""Assumed: a run of one arm and a run of another disagree on this many items for each that one of them gets wrong."""
GRADED = 1 / 3
"""Assumed: values from 0 to 1 vary so much as right and wrong do. If all values are as likely: 1/12 against 1/4."""
LASTING = 0.35
"""Assumed: the share of that disagreement that is between the methods, and stays however many seeds there are."""
GROUPED = 0.5
"""Assumed: how strongly the differences on two items of one group correlate that have different inputs. Those on items
with equal inputs are equal."""


class ClusterSizes(NamedTuple):
    """How large the clusters of a planned study's test items are, and stay if there are more items: Σ n² / N over
    clusters of n of all N items."""

    group: float = 1.0
    copies: float = 1.0
    """Over equal inputs."""

    @property
    def design_effect(self) -> float:
        """How many times as large they make the variance over items (Kish 1965): for each item the sum of its
        correlations with all items of its cluster, on average."""
        return self.copies + GROUPED * (self.group - self.copies)


EACH_ALONE = ClusterSizes()


@dataclass(frozen=True)
class RequiredSample:
    """The sample that would decide if the difference and the variances stayed as observed. That is about 50 % power, so
    take more. None: no reasonable number would.
    """

    seeds: int | None
    """Seeds per arm in all, at most 100, with the items that there are; by the verdict after one more interim look
    (`app.domain.comparison.statistics.verdict.confidence_after`)."""
    items: int | None
    """Test items, at most 1,000,000 (found to within 2 %), with the seeds that there are."""
    both: tuple[int, int] | None = None
    """Seeds and items of a new study, where neither decides alone."""
    assumed: bool = False
    """No arm had two seeds: the seed variance is SEED_SD², not an observed one."""


@dataclass(frozen=True)
class MetricPrior:
    """What is known of a metric before a study: observed in past runs, else assumed."""

    metric: MetricName
    graded: bool
    """Its items have values from 0 to 1, not just right and wrong."""
    score: float
    disagreement: float | None = None
    """As `detectable_difference` takes it; None where it is assumed."""
    runs: int = 0
    """Past runs that the disagreement is from."""


@dataclass(frozen=True)
class _Parts:
    """A difference's variances by source, free of S and N."""

    item: float
    seed: float
    reference_seed: float
    residual: float
    reference_residual: float
    independent: float = 1.0
    """Clusters of items that tell as much, per item: below 1 where items are not independent."""


def required_sample(
    difference: Difference, margin: float, alternative: Alternative = Alternative.NON_INFERIORITY
) -> RequiredSample:
    """The fewest seeds, and the fewest items, at which the interval around the observed difference would decide; both,
    where neither would alone. It decides once its half-width is below the difference's distance from −margin (enough)
    or, of a loss, from 0 (worse); for equivalence, from either margin or from 0."""
    parts, assumed = _parts(difference)
    seeds, reference_seeds, items = difference.seeds, difference.reference_seeds, difference.items
    delta = difference.delta
    largest = max(abs(delta), margin - abs(delta)) if alternative.two_sided else max(margin + delta, -delta)
    looked_again = 1 - (1 - difference.confidence) * INTERIM_LOOK_FACTOR

    def decides(seeds: int, reference_seeds: int, items: int, confidence: float = difference.confidence) -> bool:
        return _narrower(*_spread(parts, seeds, reference_seeds, items), confidence, largest)

    more_seeds = range(max(2, min(seeds, reference_seeds) + 1), MOST_SEEDS + 1)
    enough_seeds = next(
        (s for s in more_seeds if decides(max(s, seeds), max(s, reference_seeds), items, looked_again)), None
    )
    if difference.one_seed:
        return RequiredSample(seeds=enough_seeds, items=None, assumed=assumed)
    more_items = np.unique(np.geomspace(items + 1, max(MOST_ITEMS, items + 1), 500).astype(int)).tolist()
    items_alone = next((n for n in more_items if n <= MOST_ITEMS and decides(seeds, reference_seeds, n)), None)
    both = None
    if enough_seeds is None and items_alone is None:
        both = _enough_of_both(items, lambda s, n: decides(s, s, n))
    return RequiredSample(seeds=enough_seeds, items=items_alone, both=both, assumed=assumed)


def _enough_of_both(items: int, decides: Callable[[int, int], bool]) -> tuple[int, int] | None:
    """Of the numbers of seeds SEEDS_TRIED, each with the fewest items that decide with it, the pair with the smallest
    seeds² · items: a seed more is a run more of every arm, an item more is tested by all of them."""
    enough = {s: items if decides(s, items) else enough_items(items, partial(decides, s)) for s in SEEDS_TRIED}
    pairs = [(s, n) for s, n in enough.items() if n is not None]
    return min(pairs, key=lambda pair: pair[0] ** 2 * pair[1], default=None)


def enough_items(items: int, decides: Callable[[int], bool]) -> int | None:
    """The fewest items above `items`, to within 5 %, that decide; None up to a million."""
    low, high = items, MOST_ITEMS
    if low >= high or not decides(high):
        return None
    while high > 1.05 * low + 1:
        middle = round((low * high) ** 0.5)
        low, high = (low, middle) if decides(middle) else (middle, high)
    return high


def detectable_difference(
    items: int,
    seeds: int,
    score: float,
    *,
    graded: bool = False,
    disagreement: float | None = None,
    seed_sd: float | None = None,
    comparisons: int = 1,
    confidence: float = CONFIDENCE,
    clusters: ClusterSizes = EACH_ALONE,
) -> float:
    """The half-width to expect of a study: the smallest observed difference that it can detect, in the
    metric's unit.

    With several `comparisons` (arms beside the reference) it is that of the first that Holm's correction tests, at
    1 − (1 − confidence) / comparisons: the others have narrower intervals once that one is decided.

    A true difference of this size is found in half of the studies; one of 1.4 times this size in about 80 %. And an
    arm can only be within a margin that is wider than this.

    `score` is a guess at the arms' (0.89). Until runs have shown them, the rest is assumed: `disagreement`, the
    variance over items of the difference between a run of one arm and a run of the other, is the share of items on
    which the two disagree, DISAGREEMENT × (1 − score), or GRADED times that where the metric is `graded`; LASTING of it
    stays whatever the seeds. `seed_sd`, the sd over seeds of one run's score on these items, is SEED_SD and the rest of
    the disagreement. With one seed it is the items' part only. Items that form `clusters` multiply an assumed
    disagreement by their design effect; an observed one has it already (`observed_disagreement`). It is 1 at most, and
    where all items are one cluster, which decides nothing. ValueError if the numbers make no study.
    """
    confidence = 1 - (1 - confidence) / max(comparisons, 1)
    parts = _planned(items, seeds, score, graded, disagreement, seed_sd, clusters)
    variance, df = _plan_spread(parts, seeds, items)
    return 1.0 if items <= clusters.group else min(student(confidence, df) * sqrt(variance), 1.0)


def power_of_equal_arms(
    items: int,
    seeds: int,
    score: float,
    margin: float,
    alternative: Alternative = Alternative.NON_INFERIORITY,
    *,
    graded: bool = False,
    disagreement: float | None = None,
    seed_sd: float | None = None,
    comparisons: int = 1,
    confidence: float = CONFIDENCE,
    clusters: ClusterSizes = EACH_ALONE,
) -> float:
    """The power of the verdict "enough", from 0 to 1: the probability that the interval's lower limit lies above
    −`margin` (in the metric's unit) where the arms truly do not differ. Of equivalence that of "within": the whole
    interval lies inside ±`margin`. The rest is as in `detectable_difference`.

    The interval is D ± t·√v. D is normal with mean 0 and variance V, and independent of the estimates of the variances.
    So "enough", one one-sided test (Julious 2004, "Sample sizes for clinical trials with normal data"), has

        power = E[ Φ((M − t·√v)/√V) ]

    over the estimated seed variances of the two arms, and "within", two one-sided tests (Schuirmann 1987; Phillips
    1990, "Power of the two one-sided tests procedure in bioequivalence"), has

        power = E[ 2·Φ((M − t·√v)/√V) − 1 ], 0 where t·√v exceeds M.

    Each seed variance is its expectation times χ²(S − 1)/(S − 1), and is taken at QUANTILES equally probable values; v
    and the degrees of freedom of t follow from each pair. The variances over items are taken as known, for items are
    many. Where the expected half-width equals the margin, "enough" has about 50 % and "within" a few percent.
    """
    confidence = 1 - (1 - confidence) / max(comparisons, 1)
    parts = _planned(items, seeds, score, graded, disagreement, seed_sd, clusters)
    if items <= clusters.group:  # a single cluster decides nothing
        return 0.0
    sd = sqrt(_plan_spread(parts, seeds, items)[0])

    def power(shares: tuple[float, float]) -> float:
        variance, df = _plan_spread(parts, seeds, items, shares)
        above = NormalDist().cdf((margin - student(confidence, df) * sqrt(variance)) / sd)
        return max(2 * above - 1, 0.0) if alternative.two_sided else above

    if seeds == 1:
        return power((1.0, 1.0))
    df = seeds - 1
    shares = [chi_square_quantile(df, (k + 0.5) / QUANTILES) / df for k in range(QUANTILES)]
    same = sum(power((share, share)) for share in shares)
    return (same + 2 * sum(map(power, combinations(shares, 2)))) / QUANTILES**2


def _planned(
    items: int,
    seeds: int,
    score: float,
    graded: bool,
    disagreement: float | None,
    seed_sd: float | None,
    clusters: ClusterSizes,
) -> _Parts:
    """The variances to expect of a study, from the assumptions of `detectable_difference`."""
    if items < 2 or seeds < 1 or not 0 <= score <= 1:
        raise ValueError("a plan needs two items and one seed at least, and a score between 0 and 1")
    assumed = DISAGREEMENT * (1 - score) * (GRADED if graded else 1) * clusters.design_effect
    disagree = max(assumed if disagreement is None else disagreement, clusters.group**2 / items)
    independent = 1 / clusters.group
    if seeds == 1:
        return _Parts(disagree, 0.0, 0.0, 0.0, 0.0, independent)
    # Two runs of one arm disagree on the rest of it, and each brings half.
    residual = (1 - LASTING) * disagree / 2
    seed = SEED_SD**2 if seed_sd is None else max(seed_sd**2 - residual / items, 0.0)
    return _Parts(LASTING * disagree, seed, seed, residual, residual, independent)


def _plan_spread(
    parts: _Parts, seeds: int, items: int, shares: tuple[float, float] = (1.0, 1.0)
) -> tuple[float, float]:
    """V of a plan and its degrees of freedom; `shares` as in `_spread`."""
    if seeds == 1:
        return parts.item / items, max(items * parts.independent - 1, 1.0)
    return _spread(parts, seeds, seeds, items, shares)


def observed_disagreement(arms: Iterable[Scores], clusters: Clusters | None = None) -> float | None:
    """`disagreement` from [S, N] scores of arms on the same items: the mean over pairs of arms, and over seeds that
    both have. Where items form `clusters` it is as much larger as they make the variance. None unless two arms have
    runs."""
    matrices = [np.asarray(scores, dtype=np.float64) for scores in arms if len(scores)]

    def variance(values: Scores) -> float:
        one = np.var(values, ddof=1)
        return float(item_variance(values, 1.0, clusters) * len(values) if clusters and one else one)

    pairs = [variance(a[s] - b[s]) for a, b in combinations(matrices, 2) for s in range(min(len(a), len(b)))]
    known = [pair for pair in pairs if isfinite(pair)]  # a single cluster has no variance
    return float(np.mean(known)) if known else None


def _parts(difference: Difference) -> tuple[_Parts, bool]:
    """Take a difference's variances apart; a negative rest is 0."""
    n = difference.items
    e_a, e_b = difference.residual, difference.reference_residual
    item = max(difference.item_variance * n - e_a / difference.seeds - e_b / difference.reference_seeds, 0.0)
    own = max(difference.seed_variance - e_a / n, 0.0) if difference.seeds > 1 else None
    reference = max(difference.reference_seed_variance - e_b / n, 0.0) if difference.reference_seeds > 1 else None
    assumed = own is None and reference is None
    fallback = next((v for v in (own, reference) if v is not None), SEED_SD**2)
    return (
        _Parts(
            item=item,
            seed=fallback if own is None else own,
            reference_seed=fallback if reference is None else reference,
            residual=e_a,
            reference_residual=e_b,
            independent=(difference.item_degrees_of_freedom + 1) / n,
        ),
        assumed,
    )


def _narrower(variance: float, df: float, confidence: float, half_width: float) -> bool:
    """Whether t·√V is below a half-width. The same degrees of freedom seldom occur twice, and a quantile takes long; so
    first those of the powers of DF_STEP on both sides of them are tried, which are few and remembered."""
    sd, power = sqrt(variance), floor(log(max(df, 1.0), DF_STEP))
    if student(confidence, DF_STEP ** (power + 2)) * sd >= half_width:
        return False
    fewest = max(DF_STEP ** (power - 1), 1.0)
    return student(confidence, fewest) * sd < half_width or student(confidence, df) * sd < half_width


def _spread(
    parts: _Parts, seeds: int, reference_seeds: int, items: int, shares: tuple[float, float] = (1.0, 1.0)
) -> tuple[float, float]:
    """V and its degrees of freedom, where the estimated seed variances of arm and reference are these shares of those
    expected."""
    e_a, e_b = parts.residual, parts.reference_residual
    v_i = (parts.item + e_a / seeds + e_b / reference_seeds) / items
    return spread(
        v_i,
        items,
        (shares[0] * (parts.seed + e_a / items), e_a, seeds),
        (shares[1] * (parts.reference_seed + e_b / items), e_b, reference_seeds),
        max(items * parts.independent - 1, 1.0),
    )
