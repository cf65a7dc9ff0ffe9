"""The comparison of a study: any comparison, with what the study fixed before its runs began.

Pure: runs in, comparison out. The statistics are in `verdict.py`; `app.words` puts them into words.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.domain.comparison.baselines import BaselineResult, StoredBaseline, baseline_results, strongest
from app.domain.comparison.costs.costs import Costs, Spread
from app.domain.comparison.fairness.conditions import Condition, measured, planned, study_conditions
from app.domain.comparison.fairness.confounders import (
    MEMORY,
    TIME,
    ConditionName,
    Confounder,
    ConfounderKind,
    RunConditions,
    find_confounders,
    measured_alike,
)
from app.domain.comparison.learning.learning import Learning, learning
from app.domain.comparison.model import POINT, ArmResult, Comparison, RunOutcome, marker_fills, most_common, overlaps
from app.domain.comparison.statistics.clusters import Clusters
from app.domain.comparison.statistics.intervals import Difference, ScoreInterval, difference, score_interval
from app.domain.comparison.statistics.score_matrices import base_scores, common_clusters, common_items, matrices
from app.domain.comparison.statistics.verdict import best_indistinguishable, confidence_after, judge
from app.domain.failures import Failure
from app.domain.runs.result import RunResult
from app.domain.runs.status import RunStatus
from app.domain.studies.arms import ArmSpec
from app.domain.studies.power import (
    EACH_ALONE,
    GRADED_SCORE,
    SCORE,
    ClusterSizes,
    detectable_difference,
    observed_disagreement,
)
from app.domain.studies.spec import StudySpec
from app.domain.studies.tuning.arm_tuning import ArmTuning
from app.domain.studies.tuning.search_space import Configuration
from app.domain.studies.tuning.trials import Trial
from app.domain.tasks import METRICS, TASKS, MetricName


@dataclass(frozen=True, kw_only=True)
class StudyArm(ArmResult):
    """An arm of a study and what is known of it so far."""

    spec: ArmSpec
    learning_rate: float
    """The one that tuning chose; its own until then."""
    configuration: Configuration
    """The hyperparameters that tuning chose; empty without tuning, and until then."""
    settled: ArmSpec
    """Its spec with that configuration."""
    costs: Costs | None
    forgetting: Spread | None
    """Rise of the loss on general text over its runs, nats per token; None where it was not measured."""
    above_baseline: ScoreInterval | None = None
    """Its score minus that of the best baseline; None without a result of both on the same items."""
    tuning: ArmTuning | None = None
    stopped: bool = False
    """It was stopped: its results stay, and no further runs follow."""

    @property
    def searched(self) -> bool:
        """A search chose its configuration."""
        return self.tuning is not None and self.tuning.chosen is not None

    @property
    def awaits_rate(self) -> bool:
        """Its runs are queued once tuning has chosen a configuration."""
        return self.tuning is not None and not (self.tuning.failed or self.stopped or self.runs)

    @property
    def untrainable(self) -> bool:
        """All trials of a round failed, so it has no runs."""
        return self.tuning is not None and self.tuning.failed

    @property
    def failure(self) -> Failure | None:
        """Why a run of it failed, or why it has none: its trials did."""
        return super().failure or (self.tuning.failure if self.tuning and self.untrainable else None)

    @property
    def over(self) -> bool:
        """It has no result and will have none."""
        return self.score is None and (self.stopped or self.untrainable or bool(self.failed))

    @property
    def can_stop(self) -> bool:
        """Runs or trials of it are still to come."""
        return not self.stopped and (self.awaits_rate or any(not run.status.terminal for run in self.runs))

    @property
    def trials(self) -> tuple[Trial, ...]:
        """The runs that searched its hyperparameters."""
        return self.tuning.trials if self.tuning else ()


@dataclass(frozen=True, kw_only=True)
class StudyComparison(Comparison[StudyArm]):
    """The arms of a study, in the order of the study, compared with its reference."""

    spec: StudySpec
    metric: MetricName
    base_score: ScoreInterval | None
    """The base model's score before training."""
    base_difference: Difference | None
    """The base model before training, minus the reference."""
    items: int | None
    """Test items."""
    clusters: int | None
    """Clusters that they form: those with equal inputs are one. None where each is its own."""
    conditions: tuple[Condition, ...]
    best_scores: frozenset[str]
    """Arms not significantly different from the best mean; without those whose single seed hints at worse."""
    detectable_difference: float | None
    """What this test set and these seeds can detect, as a fraction. Until two arms have runs the variances are assumed;
    the variance over seeds is assumed throughout."""
    interim_looks: int
    """How often seeds were added when results were already visible."""
    baselines: tuple[BaselineResult, ...]
    learning: Learning
    """The first question: does fine-tuning help at all? The arms have verdicts only where the answer is not no."""
    labels: tuple[str, ...]

    @property
    def runs_overlapped(self) -> bool:
        """Two runs ran on one worker at the same time."""
        return any(confounder.kind is ConfounderKind.OVERLAP for confounder in self.confounders)

    @property
    def failures(self) -> list[tuple[Failure, int]]:
        """Why runs failed, the most common reason first, with how often; trials count where their arm has no run."""
        reasons = [run.failure for run in self.runs if run.failure]
        reasons += [trial.failure for arm in self.arms if arm.untrainable for trial in arm.trials if trial.failure]
        return most_common(reasons)

    @property
    def statuses(self) -> tuple[RunStatus, ...]:
        """The status of everything that was queued, trials first."""
        return (*(trial.status for arm in self.arms for trial in arm.trials), *(run.status for run in self.runs))

    @property
    def done(self) -> int:
        """Runs that have ended, in any way, with trials."""
        return sum(status.terminal for status in self.statuses)

    @property
    def total(self) -> int:
        """Runs that there will be, with trials; of an arm that is being tuned, also those still to come, where their
        number is known."""
        to_come = (
            len(self.spec.seeds) + max(0, (self.spec.trials_owed(arm.spec) or 0) - len(arm.trials))
            for arm in self.arms
            if arm.awaits_rate
        )
        return len(self.statuses) + sum(to_come)

    @property
    def complete(self) -> bool:
        """Nothing is queued or running, and nothing will be."""
        return all(status.terminal for status in self.statuses) and not any(arm.awaits_rate for arm in self.arms)


def compare(
    spec: StudySpec,
    runs: Sequence[RunOutcome],
    *,
    trials: Sequence[Trial] = (),
    stopped: Collection[str] = (),
    interim_looks: int = 0,
    test_items: int | None = None,
    sizes: ClusterSizes = EACH_ALONE,
    baselines: Sequence[StoredBaseline] = (),
    labels: Sequence[str] = (),
    attention_only: Collection[str] = (),
) -> StudyComparison:
    """Compare the arms of a study by the runs that it has so far; missing and failed ones are shown and block nothing.

    `trials` are reported, and enter no score; `stopped` names the arms that were stopped; `interim_looks` counts how
    often seeds were added when results were already visible; `sizes` are those of the test items' clusters, of which
    only runs tell which they are.
    """
    by_arm = {arm.title: tuple(run for run in runs if run.arm == arm.title) for arm in spec.arms}
    items_hash = common_items(runs)
    scores, clusters = matrices(by_arm, items_hash), common_clusters(runs, items_hash)
    confidence, margin = confidence_after(interim_looks), spec.margin_points * POINT
    reference, verdicts = scores.get(spec.reference_arm), {}
    if reference is not None:
        verdicts = judge(scores, spec.reference_arm, margin, spec.alternative, confidence=confidence, clusters=clusters)
    done = {title: [run for run in outcomes if run.result] for title, outcomes in by_arm.items()}
    results = {title: [run.result for run in outcomes if run.result] for title, outcomes in done.items()}
    items = next((matrix.shape[1] for matrix in scores.values()), test_items)
    tuning = {arm.title: tuned for arm in spec.arms if (tuned := ArmTuning.of(spec, arm, trials))}
    chosen = {a.title: (tuning[a.title].chosen if a.title in tuning else None) or Configuration() for a in spec.arms}
    base = base_scores([run for outcomes in done.values() for run in outcomes], items)
    base_difference = None
    if base is not None and reference is not None:
        base_difference = difference(base, reference, clusters=clusters)
    before = None if TASKS[spec.task].adds_head else base  # a new head has learned nothing yet
    compared = baseline_results(baselines, spec.verdict_metric, reference, items_hash, confidence, before, clusters)
    best = strongest(compared)
    learned = learning(compared, done, spec.reference_arm, base_difference)
    hinted_worse = {
        name
        for name, verdict in verdicts.items()
        if verdict.hint and verdict.difference and verdict.difference.high < 0
    }
    shown = {title: verdict.not_tested if learned.closed else verdict for title, verdict in verdicts.items()}
    arms = tuple(
        StudyArm(
            spec=arm,
            title=arm.title,
            family=arm.method.facts.family,
            hollow=hollow,
            is_reference=arm.title == spec.reference_arm,
            learning_rate=chosen[arm.title].learning_rate or arm.rate,
            configuration=chosen[arm.title],
            settled=arm.at(chosen[arm.title], spec.training),
            runs=by_arm[arm.title],
            score=score_interval(scores[arm.title], clusters=clusters) if arm.title in scores else None,
            verdict=shown.get(arm.title),
            costs=Costs.of(alone) if (alone := [r for r in results[arm.title] if r.trained_together == 1]) else None,
            forgetting=_forgetting(results[arm.title]),
            above_baseline=best.below(scores[arm.title], confidence, clusters)
            if best and arm.title in scores
            else None,
            tuning=tuning.get(arm.title),
            stopped=arm.title in stopped,
        )
        for arm, hollow in zip(spec.arms, marker_fills(arm.method.facts.family for arm in spec.arms), strict=True)
    )
    confounders = _confounders(spec, arms, done)
    measurements = [measured(result) for outcomes in results.values() for result in outcomes]
    apart = (ConfounderKind.OVERLAP, ConfounderKind.WORKER)
    return StudyComparison(
        spec=spec,
        arms=arms,
        metric=spec.verdict_metric,
        margin=margin,
        alternative=spec.alternative,
        confidence=confidence,
        confounders=confounders,
        memory_comparable=measured_alike(measurements, MEMORY),
        times_comparable=measured_alike(measurements, TIME) and not any(c.kind in apart for c in confounders),
        base_score=score_interval(base, clusters=clusters) if base is not None else None,
        base_difference=base_difference,
        items=items,
        clusters=len(clusters) if clusters else None,
        conditions=study_conditions(spec, by_arm, tuning),
        best_scores=frozenset(best_indistinguishable(scores, confidence, clusters)) - hinted_worse,
        detectable_difference=_detectable_difference(spec, scores, items, confidence, clusters, sizes),
        interim_looks=interim_looks,
        baselines=compared,
        learning=learned,
        labels=tuple(labels),
        attention_only=frozenset(attention_only),
    )


def _confounders(
    spec: StudySpec, arms: Sequence[StudyArm], done: Mapping[str, Sequence[RunOutcome]]
) -> tuple[Confounder, ...]:
    """Differences between arms that a study does not rule out: everything else is equal by design, or among its
    conditions."""
    scored = [arm for arm in arms if arm.score]
    given = {arm.title: planned(spec.training_of(arm.settled)) for arm in arms}
    # Steps that were taken may differ between seeds in a part of an epoch: they are compared seed by seed, among the
    # conditions. What an arm was given replaces them.
    conditions: dict[str, list[RunConditions]] = {
        title: [_without_steps(measured(run.result)) | given[title] for run in runs if run.result]
        for title, runs in done.items()
        if runs
    }
    several_workers = len({run.worker for outcomes in done.values() for run in outcomes}) > 1
    facts: dict[ConfounderKind, Sequence[str]] = {
        **overlaps(done),
        ConfounderKind.WORKER: [title for title, outcomes in done.items() if outcomes] if several_workers else [],
        ConfounderKind.UNTUNED: [arm.title for arm in scored if not (arm.tuning and arm.tuning.compares_rates)],
        ConfounderKind.ONE_SEED: [arm.title for arm in scored if arm.score and arm.score.seeds == 1],
    }
    return find_confounders(conditions, facts)


def _without_steps(conditions: RunConditions) -> dict[ConditionName, str]:
    return {name: value for name, value in conditions.items() if name != "steps"}


def _forgetting(results: Sequence[RunResult]) -> Spread | None:
    """Over the seeds that measured it."""
    changes = [result.forgetting.change for result in results if result.forgetting is not None]
    return Spread.of(changes) if changes else None


def _detectable_difference(
    spec: StudySpec,
    scores: Mapping[str, NDArray[np.float64]],
    items: int | None,
    confidence: float,
    clusters: Clusters | None,
    sizes: ClusterSizes,
) -> float | None:
    if not items or items < 2:
        return None
    graded = METRICS[spec.verdict_metric].graded
    return detectable_difference(
        items,
        len(spec.seeds),
        max((float(matrix.mean()) for matrix in scores.values()), default=GRADED_SCORE if graded else SCORE),
        graded=graded,
        disagreement=observed_disagreement(scores.values(), clusters),
        comparisons=len(spec.arms) - 1,
        confidence=confidence,
        clusters=sizes._replace(group=items / clusters.effective) if clusters else sizes,
    )
