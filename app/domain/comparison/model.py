"""One comparison: arms, each with its score, its costs and its verdict against a reference arm.

A comparison of any runs (`app.domain.comparison.runs`) and that of a study (`app.domain.comparison.study`) are both
this one. A study's adds what it fixed before its runs began: the arms, the seeds, the reference and the margin.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import inf
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from app.domain.comparison.costs.costs import ArmCosts
from app.domain.comparison.fairness.confounders import Confounder, ConfounderKind
from app.domain.comparison.statistics.clusters import Clusters
from app.domain.comparison.statistics.intervals import Difference, ScoreInterval
from app.domain.comparison.statistics.proportions import UnpairedDifference
from app.domain.comparison.statistics.verdict import ArmVerdict, VerdictKind
from app.domain.failures import Failure
from app.domain.methods import Family
from app.domain.runs.result import RunResult
from app.domain.runs.status import RunStatus
from app.domain.studies.alternative import Alternative

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
    """Base model's score on each test item before training, [N]."""
    items_hash: str | None = None
    """Which test items, in which order."""
    clusters: Clusters | None = None
    """Clusters of these items, where some have equal inputs."""
    worker: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def shared(self) -> bool:
        """It trained together with others, so it has neither times nor peak memory of its own."""
        return self.result is not None and self.result.trained_together > 1


@dataclass(frozen=True, kw_only=True)
class ArmResult:
    """An arm: runs that differ by their seed alone, and what is known of them so far."""

    title: str
    family: Family
    hollow: int
    """0 for a family's first arm (filled marker), 1 for the second (hollow), 2 and more (half-filled)."""
    is_reference: bool
    runs: Sequence[RunOutcome]
    """By seed."""
    score: ScoreInterval | None
    """Mean of the metric on the test split with its own 95 % interval; None until a seed has succeeded."""
    verdict: ArmVerdict | None
    """Against the reference; None for the reference itself."""
    costs: ArmCosts | None

    @property
    def verdict_kind(self) -> VerdictKind:
        """The verdict's kind; `none` where there is no verdict."""
        return self.verdict.kind if self.verdict else VerdictKind.NONE

    @property
    def difference(self) -> Difference | UnpairedDifference | None:
        """To the reference; None without an interval, and for the reference itself."""
        return self.verdict.difference if self.verdict else None

    @property
    def delta(self) -> float | None:
        """Mean score minus the reference's, a fraction; None without an interval."""
        return self.difference.delta if self.difference else None

    @property
    def succeeded(self) -> tuple[RunOutcome, ...]:
        return tuple(run for run in self.runs if run.status is RunStatus.SUCCEEDED)

    @property
    def failed(self) -> tuple[RunOutcome, ...]:
        return tuple(run for run in self.runs if run.status in (RunStatus.FAILED, RunStatus.CANCELLED))

    @property
    def over(self) -> bool:
        """It has no result and will have none."""
        return self.score is None and all(run.status.terminal for run in self.runs)

    @property
    def searched(self) -> bool:
        """A search chose its configuration."""
        return False

    @property
    def failure(self) -> Failure | None:
        return next((run.failure for run in self.runs if run.failure), None)


A = TypeVar("A", bound=ArmResult, covariant=True)


@dataclass(frozen=True, kw_only=True)
class Comparison(Generic[A]):
    arms: tuple[A, ...]
    metric: str
    """What every score is, and verdicts rest on."""
    margin: float
    """A fraction: losses below it are too small to matter."""
    alternative: Alternative
    """What the verdicts test against the margin."""
    confidence: float
    """Joint confidence of all verdicts."""
    confounders: tuple[Confounder, ...]
    """What makes the arms incomparable, the gravest first."""
    memory_comparable: bool
    """All runs with a result were measured on the same kind of device in the same way."""
    times_comparable: bool
    """And no other of them ran at the same time on the same worker."""
    scores_comparable: bool = True
    """All scores are of the same items by the same metric."""
    attention_only: frozenset[str] = frozenset()
    """Arms with a low-rank update of attention layers alone, where that is known."""

    @property
    def reference(self) -> A:
        """The arm that the others are compared with."""
        return next(arm for arm in self.arms if arm.is_reference)

    @property
    def others(self) -> tuple[A, ...]:
        return tuple(arm for arm in self.arms if not arm.is_reference)

    @property
    def runs(self) -> tuple[RunOutcome, ...]:
        """Every run of every arm that counts."""
        return tuple(run for arm in self.arms for run in arm.runs)

    @property
    def judged(self) -> tuple[ArmVerdict, ...]:
        """Verdicts that rest on an interval."""
        return tuple(arm.verdict for arm in self.others if arm.verdict and arm.verdict.difference)

    @property
    def differences(self) -> tuple[Difference | UnpairedDifference, ...]:
        return tuple(arm.difference for arm in self.others if arm.difference)

    @property
    def focus(self) -> A | None:
        """The arm that headlines are about; None where no arm has been compared with the reference.

        The first class that has an arm: better than the reference; good enough; one of these as a hint;
        undecided; worse (also as a hint). Within a class the arm with the lowest cost, since a comparison looks for a
        cheaper method; among the worse ones the arm that loses least. An arm that adapts attention alone comes after
        the others of its class until it is shown to be good enough: pages advise against it.
        """
        classes: tuple[Callable[[ArmVerdict], bool], ...] = (
            lambda verdict: verdict.better,
            lambda verdict: verdict.kind.good_enough,
            lambda verdict: verdict.hint is not None and verdict.hint.good_enough,
            lambda verdict: verdict.kind is VerdictKind.UNDECIDED,
        )
        for belongs in classes:
            if arms := [arm for arm in self.others if arm.verdict and belongs(arm.verdict)]:
                wide = [arm for arm in arms if arm.verdict_kind.good_enough or arm.title not in self.attention_only]
                return min(wide or arms, key=self.cost)
        worse = [arm for arm in self.others if arm.verdict_kind in (VerdictKind.WORSE, VerdictKind.HINT)]
        return max(worse, key=_delta, default=None)

    def cost(self, arm: ArmResult) -> float:
        """What arms are ranked by: peak memory, or trainable parameters where memory cannot be compared."""
        costs = arm.costs
        if costs is None:
            return inf
        if self.memory_comparable:
            return costs.peak_bytes.mean if costs.peak_bytes else inf
        return inf if costs.trainable_parameters is None else float(costs.trainable_parameters)

    @property
    def failures(self) -> list[tuple[Failure, int]]:
        """Why runs failed, the most common reason first, with how often."""
        return most_common(run.failure for run in self.runs if run.failure)


def _delta(arm: ArmResult) -> float:
    return -inf if arm.delta is None else arm.delta


AnyComparison = Comparison[ArmResult]
"""That of a study, or of any runs."""


def most_common(failures: Iterable[Failure]) -> list[tuple[Failure, int]]:
    """The first failure of each code with how often the code occurs, the most common first."""
    listed = list(failures)
    codes = Counter(failure.code for failure in listed)
    return [(next(f for f in listed if f.code is code), n) for code, n in codes.most_common()]


def marker_fills(families: Iterable[Family]) -> list[int]:
    """`ArmResult.hollow` of each arm: how many arms of its family come before it."""
    before: Counter[Family] = Counter()
    fills = []
    for family in families:
        fills.append(before[family])
        before[family] += 1
    return fills


def overlapping(runs: Mapping[str, Sequence[RunOutcome]], *, on_one_device: bool = True) -> tuple[str, ...]:
    """Arms, of runs by arm, with a run during which another ran on the same worker and, with `on_one_device`, on the
    same GPU or on its CPU. Runs that trained together have no times that this could confound."""
    spans: dict[object, list[tuple[datetime, datetime, str, bool]]] = {}
    for arm, outcomes in runs.items():
        for run in outcomes:
            if run.worker and run.started_at and run.finished_at:
                gpus = tuple(run.result.environment.gpus) if run.result and on_one_device else ()
                span = run.started_at, run.finished_at, arm, run.shared
                spans.setdefault((run.worker, gpus), []).append(span)
    overlapped: dict[str, None] = {}
    for on_device in spans.values():
        latest: dict[bool, tuple[datetime, str]] = {}  # of runs that trained together, and of others
        for start, end, arm, shared in sorted(on_device):
            for other, (until, before) in latest.items():
                if start < until and not (shared and other):
                    overlapped |= {before: None, arm: None}
            if shared not in latest or end > latest[shared][0]:
                latest[shared] = end, arm
    return tuple(overlapped)


def overlaps(runs: Mapping[str, Sequence[RunOutcome]]) -> dict[ConfounderKind, Sequence[str]]:
    """Arms, of runs by arm, with runs that overlapped on one device, else on one worker."""
    on_one_device = overlapping(runs)
    shared = [arm for arm in overlapping(runs, on_one_device=False) if arm not in on_one_device]
    return {ConfounderKind.OVERLAP: on_one_device, ConfounderKind.SHARED_HOST: shared}
