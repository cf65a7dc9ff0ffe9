"""The statistics of recipes, each with an interval, from the runs of a study.

contrast      Σ w_a · mean(a): the crossed random-effects interval of `intervals.difference`, between the weighted sum
              of the arms with positive weights and that of the others; runs of one seed are combined
forgetting    difference of two arms' means over seeds: Welch's t. As a contrast, it decides nothing where the tuning
              of an arm chose a value at the edge of its search
rate ratio    10^(x − y), where x and y are the peaks of parabolas through the best log-rate and its neighbours;
              percentile bootstrap over seeds and items. Resampling S seeds understates their variance by (S − 1)/S, so
              their deviations are widened by √(S/(S − 1)), and those of the items' weights likewise by their number,
              or the effective one of their clusters. Nothing is decided where more samples have a peak at the
              edge than an end of the interval cuts off: that end may lie further out
seed noise    z · √2 · s: 95 % of pairs of runs that differ only in their seed differ by no more. s² is the variance
              over seeds pooled over arms, its interval χ²
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import log10, sqrt
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from app.domain.comparison.model import POINT
from app.domain.comparison.statistics.distributions import chi_square_quantile, normal_quantile
from app.domain.comparison.statistics.intervals import difference, student
from app.domain.comparison.statistics.score_matrices import common_clusters, common_items
from app.domain.comparison.study import StudyArm, StudyComparison
from app.domain.messages import Message, _
from app.features.recipes.rules.recipes import (
    Check,
    Contrast,
    Forgetting,
    Outcome,
    RateRatio,
    Recipe,
    SeedNoise,
    Statistic,
)

SAMPLES = 2000
"""Of the bootstrap."""


@dataclass(frozen=True)
class Estimate:
    """A statistic and its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Finding:
    """A check, as the runs so far have it."""

    check: Check
    estimate: Estimate | None
    why: Message | None = None
    """Why there is no estimate, or why it decides nothing."""

    @property
    def interval(self) -> tuple[float, float] | None:
        """The interval that decides; None where none does."""
        return (self.estimate.low, self.estimate.high) if self.estimate and self.why is None else None


def findings(recipe: Recipe, study: StudyComparison, *, ended: bool = False) -> tuple[Finding, ...]:
    """Every check of a recipe. The study's confidence (95 %, more after interim looks) is that of all intervals
    together (Bonferroni). Once the study has `ended`, a check decides only if its arms have a result for every seed of
    the recipe: failed and cancelled runs are not missing at random."""
    arms = {arm.title: arm for arm in study.arms}
    confidence = 1 - (1 - study.confidence) / len(recipe.checks)
    results = (_finding(check, arms, confidence) for check in recipe.checks)
    return tuple(_if_complete(result, recipe, arms) if ended else result for result in results)


def _if_complete(result: Finding, recipe: Recipe, arms: dict[str, StudyArm]) -> Finding:
    counted = seeds_counted([arms[title] for title in result.check.statistic.arms], recipe.study.seeds)
    if result.why or len(counted) == len(recipe.study.seeds):
        return result
    values = {"seeds": len(counted), "all": len(recipe.study.seeds)}
    return replace(result, why=_("Only %(seeds)s of %(all)s seeds have a result for every arm", **values))


def seeds_counted(arms: Sequence[StudyArm], seeds: Sequence[int]) -> list[int]:
    """Those of the seeds that have a result for every one of the arms."""
    by_arm = [{run.seed for run in arm.succeeded} for arm in arms]
    return [seed for seed in seeds if all(seed in own for own in by_arm)]


def outcome(recipe: Recipe, results: Sequence[Finding]) -> Outcome:
    """By the recipe's rule."""
    return recipe.outcome([finding.interval for finding in results])


class _Undecidable(Exception):
    """The runs allow no estimate, or none that decides; it may have one nevertheless."""

    def __init__(self, why: Message, estimate: Estimate | None = None) -> None:
        super().__init__(why)
        self.why, self.estimate = why, estimate


def _finding(check: Check, arms: dict[str, StudyArm], confidence: float) -> Finding:
    try:
        return Finding(check, estimated(check.statistic, arms, confidence))
    except _Undecidable as reason:
        return Finding(check, reason.estimate, reason.why)


def estimated(statistic: Statistic, arms: dict[str, StudyArm], confidence: float) -> Estimate:
    """A statistic of some arms, by title."""
    match statistic:
        case Contrast():
            return _contrast(statistic, arms, confidence)
        case Forgetting():
            return _forgetting(statistic, arms, confidence)
        case RateRatio():
            return _rate_ratio(statistic, arms, confidence)
        case SeedNoise():
            return _seed_noise(statistic, arms, confidence)


def _scores(arms: Sequence[StudyArm]) -> list[NDArray[np.float64]]:
    """Scores of each arm, [S, N], of the seeds that all of them have, on the same items."""
    by_seed = [
        {run.seed: run.scores for run in arm.succeeded if run.scores is not None and run.items_hash} for arm in arms
    ]
    hashes = {run.items_hash for arm in arms for run in arm.succeeded if run.scores is not None}
    seeds = sorted(set.intersection(*(set(scores) for scores in by_seed)))
    if len(seeds) < 2 or len(hashes) > 1:
        raise _Undecidable(_("Fewer than two seeds have a result for every arm on the same test items"))
    return [np.stack([scores[seed] for seed in seeds]) for scores in by_seed]


def _contrast(statistic: Contrast, arms: dict[str, StudyArm], confidence: float) -> Estimate:
    scores = _scores([arms[title] for title in statistic.weights])
    weights = list(statistic.weights.values())
    up = sum(weight * matrix for weight, matrix in zip(weights, scores, strict=True) if weight > 0)
    down = sum(-weight * matrix for weight, matrix in zip(weights, scores, strict=True) if weight < 0)
    runs = [run for title in statistic.weights for run in arms[title].succeeded]
    clusters = common_clusters(runs, common_items(runs))
    found = difference(np.asarray(up), np.asarray(down), confidence, clusters)
    ends = sum(min(weight, 0.0) for weight in weights), sum(max(weight, 0.0) for weight in weights)
    low, high = max(found.limits[0], ends[0]), min(found.limits[1], ends[1])  # the range of the contrast
    estimate = Estimate(found.delta / POINT, low / POINT, high / POINT)
    return _unless_at_edge(estimate, [arms[title] for title in statistic.arms])


def _unless_at_edge(estimate: Estimate, arms: Sequence[StudyArm]) -> Estimate:
    """The estimate of arms whose tuning, if any, chose values inside its search. Raises _Undecidable: an arm at an edge
    may be better than its runs show."""
    at_edge = [f"{arm.title}: {', '.join(arm.tuning.edges)}" for arm in arms if arm.tuning and arm.tuning.edges]
    if at_edge:
        what = _(
            "Tuning chose a value at the edge of those tried (%(edges)s): a better value may lie beyond",
            edges="; ".join(at_edge),
        )
        raise _Undecidable(what, estimate)
    return estimate


def _forgetting(statistic: Forgetting, arms: dict[str, StudyArm], confidence: float) -> Estimate:
    samples = [
        [run.result.forgetting.change for run in arms[title].succeeded if run.result and run.result.forgetting]
        for title in statistic.arms
    ]
    if min(map(len, samples)) < 2:
        raise _Undecidable(_("Fewer than two seeds of an arm have measured forgetting"))
    means = [fmean(sample) for sample in samples]
    parts = [float(np.var(sample, ddof=1)) / len(sample) for sample in samples]
    variance, delta = sum(parts), means[0] - means[1]
    half = 0.0
    if variance:
        df = variance**2 / sum(part**2 / (len(sample) - 1) for part, sample in zip(parts, samples, strict=True))
        half = student(confidence, df) * sqrt(variance)
    return _unless_at_edge(Estimate(delta, delta - half, delta + half), [arms[title] for title in statistic.arms])


def _rate_ratio(statistic: RateRatio, arms: dict[str, StudyArm], confidence: float) -> Estimate:
    groups = [[arms[title] for title in titles] for titles in (statistic.numerator, statistic.denominator)]
    groups = [sorted(group, key=lambda arm: arm.learning_rate) for group in groups]
    scores = _scores([arm for group in groups for arm in group])
    tensors = [np.stack(scores[: len(groups[0])]), np.stack(scores[len(groups[0]) :])]  # [rates, S, N] each
    logs = [[log10(arm.learning_rate) for arm in group] for group in groups]
    peaks = [_peak(rates, tensor.mean(axis=(1, 2))) for rates, tensor in zip(logs, tensors, strict=True)]
    (seeds, items), random = tensors[0].shape[1:], np.random.default_rng(0)
    runs = [run for group in groups for arm in group for run in arm.succeeded]
    clusters = common_clusters(runs, common_items(runs))
    cluster_of = clusters.ids if clusters else np.arange(items)
    independent, effective = (len(clusters), clusters.effective) if clusters else (items, items)
    if independent < 2:
        raise _Undecidable(_("All test items are of one group, which tells nothing of other items"))
    wider, items_wider = sqrt(seeds / (seeds - 1)), sqrt(effective / (effective - 1))
    sampled, censored = [], 0
    for _sample in range(SAMPLES):
        drawn_clusters = random.integers(independent, size=independent)
        counts = np.bincount(drawn_clusters, minlength=independent)[cluster_of]
        weights = 1 / items + items_wider * (counts / counts.sum() - 1 / items)
        both = []
        for rates, tensor in zip(logs, tensors, strict=True):
            mean, drawn = tensor.mean(axis=1), tensor[:, random.integers(seeds, size=seeds)].mean(axis=1)
            both.append(_peak(rates, (mean + wider * (drawn - mean)) @ weights))
        sampled.append(both[0] - both[1])
        censored += _at_edge(both, logs)
    low, high = np.quantile(sampled, [(1 - confidence) / 2, (1 + confidence) / 2])
    found = Estimate(10 ** (peaks[0] - peaks[1]), 10 ** float(low), 10 ** float(high))
    if _at_edge(peaks, logs):
        raise _Undecidable(_("A best rate is at the edge of the rates tried: a better rate may lie beyond"), found)
    if censored > SAMPLES * (1 - confidence) / 2:
        what = _(
            "In %(samples)s of %(all)s samples a best rate is at the edge of the rates tried: the interval is "
            "too short",
            samples=censored,
            all=SAMPLES,
        )
        raise _Undecidable(what, found)
    return found


def _at_edge(peaks: Sequence[float], logs: Sequence[Sequence[float]]) -> bool:
    """A peak is at an end of its rates: it may lie beyond."""
    return any(peak in (rates[0], rates[-1]) for peak, rates in zip(peaks, logs, strict=True))


def _peak(logs: Sequence[float], means: NDArray[np.float64]) -> float:
    """Where a parabola through the best point and its neighbours has its peak; at an edge, the edge."""
    best = int(np.argmax(means))
    if best in (0, len(logs) - 1):
        return logs[best]
    x, y = np.array(logs[best - 1 : best + 2]), means[best - 1 : best + 2]
    curvature, slope, _constant = np.polyfit(x - x[1], y, 2)
    return float(np.clip(x[1] - slope / (2 * curvature), x[0], x[2])) if curvature < 0 else float(x[1])


def _seed_noise(statistic: SeedNoise, arms: dict[str, StudyArm], confidence: float) -> Estimate:
    means = [
        [float(run.scores.mean()) for run in arms[title].succeeded if run.scores is not None]
        for title in statistic.over
    ]
    freedom = sum(len(own) - 1 for own in means if own)
    if freedom < 2:
        raise _Undecidable(_("Fewer than two further seeds have a result"))
    squares = sum(float(np.var(own, ddof=1)) * (len(own) - 1) for own in means if len(own) > 1)
    factor = normal_quantile(0.975) * sqrt(2) / POINT
    tail = (1 - confidence) / 2
    low, high = (sqrt(squares / chi_square_quantile(freedom, p)) for p in (1 - tail, tail))
    return Estimate(factor * sqrt(squares / freedom), factor * low, factor * high)
