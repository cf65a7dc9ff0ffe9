"""A run that was trained again with the same spec and seed, judged by what seeds alone change.

    prediction interval    mean ± t(k − 1) · s · √(1 + 1/k), from the scores of the arm's k seeds: where the score of
                           one more run of this arm lies, with 95 % confidence; s is one item's share at least, since
                           seeds that agree on N items may still differ on one more

    identical   every test item has the same score
    within      the score lies in the interval: no further off than another seed would be
    outside     the score lies outside of it: the seed alone does not explain the difference
    unknown     only one seed was trained, so there is no interval

Same seed does not mean same result: on a GPU, sums depend on the order of their terms, and another library version or
device has other kernels. The interval is that of a new observation from a normal distribution (Hahn and Meeker,
Statistical Intervals, 1991, chapter 4).
"""

from collections.abc import Sequence
from enum import StrEnum
from math import sqrt

import numpy as np
from pydantic import BaseModel, ConfigDict

from app.domain.comparison.statistics.clusters import Clusters
from app.domain.comparison.statistics.intervals import CONFIDENCE, Scores, difference, student


class ReproductionOutcome(StrEnum):
    IDENTICAL = "identical"
    WITHIN = "within"
    OUTSIDE = "outside"
    UNKNOWN = "unknown"


class Reproduction(BaseModel):
    """How a run that was trained again compares with the first."""

    model_config = ConfigDict(frozen=True)

    outcome: ReproductionOutcome
    score: float
    """Score of the first run, from 0 to 1."""
    again: float
    """Score of the run that was trained again."""
    seeds: int
    """Number of seeds that the interval comes from."""
    low: float | None
    """Lower end of the prediction interval; None with one seed."""
    high: float | None
    items: int
    same_items: int
    """Test items with the same score in both."""
    delta: float
    """again − score."""
    half_width: float
    """Half the width of the paired 95 % interval of `delta`, from the items alone."""
    same_weights: bool
    """The files with the trained weights are equal, byte for byte."""


def reproduction(
    first: Scores,
    again: Scores,
    seed_scores: Sequence[float],
    *,
    same_weights: bool,
    clusters: Clusters | None = None,
) -> Reproduction:
    """From [N] scores each on the same items in the same order, and the mean score of each of the arm's seeds, the
    first run's among them. ValueError if the items do not fit each other."""
    interval = difference(again[None, :], first[None, :], CONFIDENCE, clusters)
    same = int(np.sum(again == first))
    bounds = prediction_interval(seed_scores, len(first))
    score = float(np.mean(again))
    if same == len(first):
        outcome = ReproductionOutcome.IDENTICAL
    elif bounds is None:
        outcome = ReproductionOutcome.UNKNOWN
    else:
        inside = bounds[0] <= score <= bounds[1]
        outcome = ReproductionOutcome.WITHIN if inside else ReproductionOutcome.OUTSIDE
    return Reproduction(
        outcome=outcome,
        score=float(np.mean(first)),
        again=score,
        seeds=len(seed_scores),
        low=bounds[0] if bounds else None,
        high=bounds[1] if bounds else None,
        items=len(first),
        same_items=same,
        delta=interval.delta,
        half_width=interval.half_width,
        same_weights=same_weights,
    )


def prediction_interval(scores: Sequence[float], items: int) -> tuple[float, float] | None:
    """Where the next score on as many items lies with 95 % confidence, within 0 and 1; None from fewer than two."""
    if len(scores) < 2:
        return None
    values = np.asarray(scores, dtype=np.float64)
    deviation = max(float(values.std(ddof=1)), 1 / items)
    half = student(CONFIDENCE, len(values) - 1) * deviation * sqrt(1 + 1 / len(values))
    mean = float(values.mean())
    return max(mean - half, 0.0), min(mean + half, 1.0)
