"""A study weighed: what each arm reached and cost, its verdict against the reference, and what was not equal.

Pure: runs in, comparison out. The statistics are in `verdict.py`; the words for people are made by the web.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from math import inf

import numpy as np
from numpy.typing import NDArray

from app.domain.comparison.conditions import Condition, Made, conditions
from app.domain.comparison.costs import Costs, Spread
from app.domain.comparison.verdict import (
    ArmVerdict,
    Difference,
    ScoreInterval,
    VerdictKind,
    best_indistinguishable,
    confidence_after,
    detectable_difference,
    difference,
    judge,
    observed_disagreement,
    score_interval,
)
from app.domain.failures import Failure
from app.domain.methods import Family
from app.domain.runs.result import RunResult
from app.domain.runs.status import RunStatus
from app.domain.studies.arm_tuning import ArmTuning
from app.domain.studies.power import GRADED_SCORE, SCORE
from app.domain.studies.spec import ArmSpec, StudySpec
from app.domain.studies.tuning import Trial, trials_owed
from app.domain.tasks import METRICS, MetricName

POINT = 0.01
"""A percentage point, as a fraction."""


@dataclass(frozen=True)
class RunOutcome:
    """A run as a comparison sees it."""

    run_id: int
    arm: str
    seed: int
    status: RunStatus
    result: RunResult | None = None
    failure: Failure | None = None
    scores: NDArray[np.float64] | None = None
    """Adapted model's score on each test item, [N]."""
    base_scores: NDArray[np.float64] | None = None
    """Untouched model's score on each test item, [N]."""
    items_hash: str | None = None
    """Which test items, in which order."""
    worker: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def environment(self) -> tuple[str, str]:
        """What a time or a memory peak depends on besides the method: device and precision."""
        where = self.result.environment if self.result else None
        return (where.device_name, where.precision) if where else ("", "")


@dataclass(frozen=True)
class StudyArm:
    """An arm and what is known of it so far."""

    spec: ArmSpec
    title: str
    family: Family
    hollow: int
    """0 for a family's first arm (filled marker), 1 for the second (hollow), 2 and more (half-filled)."""
    is_reference: bool
    learning_rate: float
    """The one that tuning chose; its usual one until then."""
    runs: tuple[RunOutcome, ...]
    """Every run that counts and that was queued for it, by seed."""
    score: ScoreInterval | None
    """Mean of the metric on the test split with its own 95 % interval; None until a seed has succeeded."""
    verdict: ArmVerdict | None
    """Against the reference; None for the reference itself."""
    costs: Costs | None
    forgetting: Spread | None
    """What its runs have lost on general text, nats per token; above 0 if something. None where it was not measured."""
    tuning: ArmTuning | None = None
    """None where its rate was not looked for."""
    stopped: bool = False
    """Somebody stopped it: what it has done stays, and nothing follows."""

    @property
    def verdict_kind(self) -> VerdictKind:
        """The verdict's kind; `none` where there is no verdict."""
        return self.verdict.kind if self.verdict else VerdictKind.NONE

    @property
    def delta(self) -> float | None:
        """Mean score minus the reference's, a fraction; None without an interval."""
        return self.verdict.difference.delta if self.verdict and self.verdict.difference else None

    @property
    def awaits_rate(self) -> bool:
        """Its runs are queued once tuning has chosen."""
        return self.tuning is not None and not (self.tuning.hopeless or self.stopped or self.runs)

    @property
    def failure(self) -> Failure | None:
        """Why a run of it failed, or why it has none: its trials did."""
        own = next((run.failure for run in self.failed if run.failure), None)
        return own or (self.tuning.failure if self.tuning and self.tuning.hopeless else None)

    @property
    def over(self) -> bool:
        """It has no result and will have none."""
        gone = self.stopped or bool(self.tuning and self.tuning.hopeless)
        return self.score is None and (gone or bool(self.failed))

    @property
    def trials(self) -> tuple[Trial, ...]:
        """The runs that looked for its rate."""
        return self.tuning.trials if self.tuning else ()

    @property
    def succeeded(self) -> tuple[RunOutcome, ...]:
        """Runs with a result."""
        return tuple(r for r in self.runs if r.status is RunStatus.SUCCEEDED)

    @property
    def failed(self) -> tuple[RunOutcome, ...]:
        """Runs that ended without one."""
        return tuple(r for r in self.runs if r.status in (RunStatus.FAILED, RunStatus.CANCELLED))


@dataclass(frozen=True)
class StudyComparison:
    """A study weighed."""

    spec: StudySpec
    arms: tuple[StudyArm, ...]
    """In the order of the study."""
    base_score: ScoreInterval | None
    """The untouched model."""
    base_difference: Difference | None
    """The untouched model against the reference."""
    items: int | None
    """Test items."""
    conditions: tuple[Condition, ...]
    best_scores: frozenset[str]
    """Arms that cannot be told apart from the best mean; not one whose single seed hints that it is worse."""
    detectable_difference: float | None
    """What this test set and these seeds can show, as a fraction. Until two arms have runs the variances are assumed;
    what seeds change is assumed throughout."""
    times_comparable: bool
    """All succeeded runs had the same device, and no other run of the study ran beside them on it."""
    runs_overlapped: bool
    """Two succeeded runs stood on one worker at the same time."""
    interim_looks: int
    """How often seeds were added when results could be seen."""
    memory_comparable: bool
    """All succeeded runs were measured on the same kind of device in the same precision."""

    @property
    def focus(self) -> StudyArm | None:
        """The arm that headlines are about; None where no arm has been compared with the reference.

        The first class that has an arm: better than the reference; within its margin; one of these as a hint from one
        seed; undecided; worse (also as a hint). Within a class the arm with the lowest cost, since a study looks for a
        cheaper method; among the worse ones the arm that loses least.
        """
        good = (VerdictKind.BETTER, VerdictKind.WITHIN)
        classes: tuple[Callable[[StudyArm], bool], ...] = (
            lambda arm: arm.verdict_kind is VerdictKind.BETTER,
            lambda arm: arm.verdict_kind is VerdictKind.WITHIN,
            lambda arm: arm.verdict_kind is VerdictKind.HINT and arm.verdict is not None and arm.verdict.hint in good,
            lambda arm: arm.verdict_kind is VerdictKind.UNDECIDED,
        )
        for belongs in classes:
            if arms := [arm for arm in self.others if belongs(arm)]:
                return min(arms, key=self.cost)
        worse = [arm for arm in self.others if arm.verdict_kind in (VerdictKind.WORSE, VerdictKind.HINT)]
        return max(worse, key=lambda arm: -inf if arm.delta is None else arm.delta, default=None)

    def cost(self, arm: StudyArm) -> float:
        """What arms are ranked by: peak memory, or trainable parameters where memory does not compare."""
        if arm.costs is None:
            return inf
        return arm.costs.peak_bytes.mean if self.memory_comparable else float(arm.costs.trainable_parameters)

    @property
    def failures(self) -> list[tuple[Failure, int]]:
        """Why runs failed, the most common reason first, with how often; trials count where their arm has no run."""
        reasons = [run.failure for run in self.runs if run.failure]
        untrainable = [arm for arm in self.arms if arm.tuning and arm.tuning.hopeless]
        reasons += [trial.failure for arm in untrainable for trial in arm.trials if trial.failure]
        codes = Counter(failure.code for failure in reasons)
        return [(next(f for f in reasons if f.code is code), n) for code, n in codes.most_common()]

    @property
    def confidence(self) -> float:
        """Of all verdicts together."""
        return confidence_after(self.interim_looks)

    @property
    def differences(self) -> tuple[Difference, ...]:
        """Of all arms that were held against the reference."""
        return tuple(a.verdict.difference for a in self.others if a.verdict and a.verdict.difference)

    @property
    def metric(self) -> MetricName:
        """What every score is, and the verdict rests on."""
        return self.spec.verdict_metric

    @property
    def reference(self) -> StudyArm:
        """The arm that the others are held against."""
        return next(a for a in self.arms if a.is_reference)

    @property
    def others(self) -> tuple[StudyArm, ...]:
        """All arms but the reference."""
        return tuple(a for a in self.arms if not a.is_reference)

    @property
    def runs(self) -> tuple[RunOutcome, ...]:
        """Every run of every arm that counts."""
        return tuple(r for a in self.arms for r in a.runs)

    @property
    def statuses(self) -> tuple[RunStatus, ...]:
        """Where everything that was queued stands, trials first."""
        return (*(t.status for a in self.arms for t in a.trials), *(r.status for r in self.runs))

    @property
    def done(self) -> int:
        """Runs that have ended, however, with trials."""
        return sum(status.terminal for status in self.statuses)

    @property
    def total(self) -> int:
        """Runs that there will be, with trials; of an arm whose rate is looked for, those that are still to come."""
        most = trials_owed(self.spec.tuning)
        to_come = (len(self.spec.seeds) + max(0, most - len(a.trials)) for a in self.arms if a.awaits_rate)
        return len(self.statuses) + sum(to_come)

    @property
    def forgetting_measured(self) -> bool:
        """An arm has a run that looked for it."""
        return any(a.forgetting is not None for a in self.arms)

    @property
    def complete(self) -> bool:
        """Nothing is queued or running, and nothing will be."""
        return all(status.terminal for status in self.statuses) and not any(a.awaits_rate for a in self.arms)


def compare(
    spec: StudySpec,
    runs: Sequence[RunOutcome],
    *,
    trials: Sequence[Trial] = (),
    stopped: Collection[str] = (),
    interim_looks: int = 0,
    test_items: int | None = None,
) -> StudyComparison:
    """Weigh a study by the runs that it has so far; missing and failed ones are shown and block nothing else.

    `trials` are told, and weighed nowhere; `stopped` names the arms that were stopped; `interim_looks` counts how often
    seeds were added when results could be seen.
    """
    by_arm = {arm.title: tuple(r for r in runs if r.arm == arm.title) for arm in spec.arms}
    scores = _matrices(by_arm)
    confidence, margin = confidence_after(interim_looks), spec.margin_points * POINT
    verdicts = judge(scores, spec.reference_arm, margin, confidence=confidence) if spec.reference_arm in scores else {}
    done = [r for r in runs if r.result is not None]
    results = {title: [r.result for r in those if r.result is not None] for title, those in by_arm.items()}
    items = next((matrix.shape[1] for matrix in scores.values()), test_items)
    found = {arm.title: ArmTuning.of(spec, arm, trials) for arm in spec.arms}
    tuning = {title: tuned for title, tuned in found.items() if tuned is not None}
    made = {
        title: [Made(r.seed, r.result, r.items_hash) for r in those if r.result is not None]
        for title, those in by_arm.items()
    }
    arms = _arms(spec, by_arm, results, scores, verdicts, tuning, stopped)
    best = best_indistinguishable(scores, confidence)
    hinted_worse = {name for name, verdict in verdicts.items() if verdict.hint is VerdictKind.WORSE}
    base, reference = _untouched(done, items), scores.get(spec.reference_arm)
    runs_overlapped = _overlap(done)
    return StudyComparison(
        spec=spec,
        arms=arms,
        base_score=score_interval(base) if base is not None else None,
        base_difference=difference(base, reference) if base is not None and reference is not None else None,
        items=items,
        conditions=conditions(spec, made, tuning),
        best_scores=frozenset(name for name in best if name not in hinted_worse),
        detectable_difference=_can_show(spec, scores, items, confidence),
        times_comparable=len({(r.worker, *r.environment) for r in done}) <= 1 and not runs_overlapped,
        runs_overlapped=runs_overlapped,
        interim_looks=interim_looks,
        memory_comparable=len({r.environment for r in done}) <= 1,
    )


def _arms(
    spec: StudySpec,
    by_arm: Mapping[str, tuple[RunOutcome, ...]],
    results: Mapping[str, Sequence[RunResult]],
    scores: Mapping[str, NDArray[np.float64]],
    verdicts: Mapping[str, ArmVerdict],
    tuning: Mapping[str, ArmTuning],
    stopped: Collection[str],
) -> tuple[StudyArm, ...]:
    seen: Counter[Family] = Counter()
    arms = []
    for arm in spec.arms:
        facts, tuned = arm.method.facts, tuning.get(arm.title)
        arms.append(
            StudyArm(
                spec=arm,
                title=arm.title,
                family=facts.family,
                hollow=seen[facts.family],
                is_reference=arm.title == spec.reference_arm,
                learning_rate=(tuned.chosen if tuned else None) or arm.rate,
                runs=by_arm[arm.title],
                score=score_interval(scores[arm.title]) if arm.title in scores else None,
                verdict=verdicts.get(arm.title),
                costs=Costs.of(results[arm.title]) if results[arm.title] else None,
                forgetting=_forgetting(results[arm.title]),
                tuning=tuned,
                stopped=arm.title in stopped,
            )
        )
        seen[facts.family] += 1
    return tuple(arms)


def _matrices(by_arm: Mapping[str, Sequence[RunOutcome]]) -> dict[str, NDArray[np.float64]]:
    """Scores by arm, [S, N]. Runs over other test items than most are left out: they cannot be paired."""
    scored = [r for runs in by_arm.values() for r in runs if r.scores is not None]
    if not scored:
        return {}
    [(usual, _)] = Counter(r.items_hash for r in scored).most_common(1)
    rows = {
        title: [r.scores for r in runs if r.scores is not None and r.items_hash == usual]
        for title, runs in by_arm.items()
    }
    return {title: np.stack(parts) for title, parts in rows.items() if parts}


def _untouched(done: Sequence[RunOutcome], items: int | None) -> NDArray[np.float64] | None:
    """Scores of the untouched model, [S, N]: it differs between seeds only by its new head, so one run a seed."""
    by_seed = {r.seed: r.base_scores for r in done if r.base_scores is not None and len(r.base_scores) == items}
    return np.stack(list(by_seed.values())) if by_seed else None


def _forgetting(results: Sequence[RunResult]) -> Spread | None:
    """Over the seeds that measured it."""
    changes = [r.forgetting.change for r in results if r.forgetting is not None]
    return Spread.of(changes) if changes else None


def _can_show(
    spec: StudySpec, scores: Mapping[str, NDArray[np.float64]], items: int | None, confidence: float
) -> float | None:
    if not items or items < 2:
        return None
    graded = METRICS[spec.verdict_metric].graded
    return detectable_difference(
        items,
        len(spec.seeds),
        max((float(matrix.mean()) for matrix in scores.values()), default=GRADED_SCORE if graded else SCORE),
        graded=graded,
        disagreement=observed_disagreement(scores.values()),
        comparisons=len(spec.arms) - 1,
        confidence=confidence,
    )


def _overlap(done: Sequence[RunOutcome]) -> bool:
    """Whether two runs stood on the same worker at the same time."""
    spans: dict[str | None, list[tuple[datetime, datetime]]] = {}
    for run in done:
        if run.started_at and run.finished_at:
            spans.setdefault(run.worker, []).append((run.started_at, run.finished_at))
    return any(later[0] < earlier[1] for those in spans.values() for earlier, later in pairwise(sorted(those)))
