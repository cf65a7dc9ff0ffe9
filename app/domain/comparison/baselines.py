"""Does fine-tuning help at all? The reference arm against the baselines of its dataset.

The reference helps only if it beats every baseline: an intersection-union test (Berger 1982), in which each baseline is
tested at the full level, because all of them must be rejected for the claim. A baseline is deterministic, so its
difference is the mean of baseline − reference over items and the reference's seeds, with the interval of
`intervals.score_interval`. What follows from the answer is in `learning.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from app.domain.comparison.statistics.clusters import Clusters
from app.domain.comparison.statistics.intervals import DIFFERENCES, ScoreInterval, Scores, score_interval
from app.domain.data.baselines import BASELINES, Baseline, BaselineFacts, BaselineKind
from app.domain.messages import Message
from app.domain.tasks import MetricName


@dataclass(frozen=True)
class StoredBaseline:
    """A baseline as far as it is known."""

    kind: BaselineKind
    status: Literal["working", "ready", "failed", "not_applicable"]
    message: str = ""
    """Why it could not be computed, or does not apply to the study."""
    baseline: Baseline | None = None


@dataclass(frozen=True)
class BaselineResult:
    """A baseline of a study, compared with the reference arm."""

    stored: StoredBaseline
    score: ScoreInterval | None
    """None until it is computed. The interval covers the test items; there are no seeds."""
    difference: ScoreInterval | None
    """Baseline − reference; None without a result of the reference on the same items."""
    item_scores: NDArray[np.float64] | None = None
    """[N], on the items of the study's runs; None where it is of other items, or not computed."""

    def below(self, arm: Scores, confidence: float, clusters: Clusters | None = None) -> ScoreInterval | None:
        """Arm − baseline, from the arm's [S, N] scores; None where it is of other items."""
        return None if self.item_scores is None else _difference(arm, self.item_scores, confidence, clusters)

    @property
    def facts(self) -> BaselineFacts:
        return BASELINES[self.stored.kind]

    @property
    def title(self) -> Message:
        """`most frequent label`."""
        return self.facts.title

    @property
    def beaten(self) -> bool:
        """The reference is significantly better; with one seed, as far as the test items tell."""
        return self.difference is not None and self.difference.high < 0


def baseline_results(
    stored: Sequence[StoredBaseline],
    metric: MetricName,
    reference: Scores | None,
    items_hash: str | None,
    confidence: float,
    base: Scores | None = None,
    clusters: Clusters | None = None,
) -> tuple[BaselineResult, ...]:
    """Baselines beside the reference's [S, N] scores on the items with this hash. `base` are the base model's before
    training, [S, N], where it can do the task without: its zero-shot scores."""
    results = [] if base is None else [zero_shot(base, reference, confidence, clusters)]
    for known in stored:
        scores = _scores(known.baseline, metric)
        alike = known.baseline is not None and known.baseline.items_hash == items_hash
        difference = None
        if scores is not None and alike and reference is not None:
            difference = _difference(scores, reference, confidence, clusters)
        score = None if scores is None else score_interval(scores[None], clusters=clusters if alike else None)
        results.append(BaselineResult(known, score, difference, scores if alike else None))
    return tuple(results)


def zero_shot(
    base: Scores, reference: Scores | None, confidence: float, clusters: Clusters | None = None
) -> BaselineResult:
    """The base model before training as a baseline, from its [S, N] scores: it answers alike with every seed."""
    scores = base.mean(axis=0)
    difference = None if reference is None else _difference(scores, reference, confidence, clusters)
    score = score_interval(scores[None], clusters=clusters)
    return BaselineResult(StoredBaseline("zero-shot", "ready"), score, difference, scores)


def has_zero_shot(baselines: Sequence[BaselineResult]) -> bool:
    """The base model before training is one of them."""
    return any(baseline.stored.kind == "zero-shot" for baseline in baselines)


def strongest(baselines: Sequence[BaselineResult]) -> BaselineResult | None:
    """The baseline with the highest score on the items of the study's runs; None before one is computed."""
    known = [baseline for baseline in baselines if baseline.item_scores is not None]
    return max(known, key=lambda baseline: baseline.score.mean if baseline.score else 0.0, default=None)


def unfinished(baselines: Sequence[BaselineResult]) -> list[BaselineResult]:
    return [baseline for baseline in baselines if baseline.stored.status == "working"]


def unbeaten(baselines: Sequence[BaselineResult]) -> list[BaselineResult]:
    """Baselines that the reference does not beat, the strongest first; empty before they can be compared."""
    compared = [baseline for baseline in baselines if baseline.difference is not None and not baseline.beaten]
    return sorted(compared, key=lambda baseline: -(baseline.score.mean if baseline.score else 0.0))


def _difference(one: Scores, other: Scores, confidence: float, clusters: Clusters | None) -> ScoreInterval:
    return score_interval(one - other, confidence, clusters, DIFFERENCES)


def _scores(baseline: Baseline | None, metric: MetricName) -> NDArray[np.float64] | None:
    values: Mapping[MetricName, Sequence[float]] = baseline.scores if baseline else {}
    return np.array(values[metric]) if metric in values else None
