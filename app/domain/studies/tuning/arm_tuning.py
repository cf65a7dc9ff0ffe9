"""The tuning of one arm: the configurations tried, the chosen one, and the cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, log
from typing import Literal

from app.domain.comparison.model import most_common
from app.domain.failures import Failure
from app.domain.runs.status import RunStatus
from app.domain.runs.training import MAX_LEARNING_RATE
from app.domain.studies.arms import ArmSpec
from app.domain.studies.next_step import AllFailed, Chosen, Step, next_step
from app.domain.studies.power import detectable_difference
from app.domain.studies.spec import StudySpec
from app.domain.studies.tuning.search_space import (
    Configuration,
    DimensionSpec,
    Parameter,
    SearchSpace,
    bounds,
    edge,
    is_log,
)
from app.domain.studies.tuning.trials import Trial, Tried, cost, tried
from app.domain.studies.tuning.tuning import BudgetUnit, NoTuning, RandomTuning, TpeTuning
from app.domain.tasks import METRICS

Edge = Literal["smallest", "largest"]


@dataclass(frozen=True)
class Rival:
    """A configuration that is not distinguishable from the chosen one."""

    configuration: Configuration
    rate: float
    """Its learning rate."""
    behind: float
    """How far its score is behind, as a fraction."""
    within: float
    """Differences up to this occur between equally good configurations."""
    items: int
    """Items of the validation split."""


@dataclass(frozen=True)
class ArmTuning:
    """An arm's trials so far."""

    space: SearchSpace
    unit: BudgetUnit
    budget: float
    """What every arm may use, in the unit."""
    trials: tuple[Trial, ...]
    step: Step
    graded: bool
    """The items of the study's metric have values between 0 and 1."""

    @classmethod
    def of(cls, spec: StudySpec, arm: ArmSpec, trials: Sequence[Trial]) -> "ArmTuning | None":
        """From a study's trials; None without tuning."""
        tuning = spec.tuning
        if isinstance(tuning, NoTuning):
            return None
        own, space = tuple(t for t in trials if t.arm == arm.title), spec.space(arm)
        return cls(
            space=space,
            unit=tuning.unit,
            budget=tuning.budget if isinstance(tuning, RandomTuning | TpeTuning) else spec.trials_owed(arm) or 0,
            trials=own,
            step=next_step(tuning, space, own),
            graded=METRICS[spec.verdict_metric].graded,
        )

    @property
    def chosen(self) -> Configuration | None:
        """The configuration of its runs; None until it is chosen."""
        return self.step.configuration if isinstance(self.step, Chosen) else None

    @property
    def failed(self) -> bool:
        """All trials of a round failed, so the arm has no runs."""
        return isinstance(self.step, AllFailed)

    @property
    def tried(self) -> list[Tried]:
        """Every configuration of every round, round by round."""
        return [entry for place in range(self.rounds) for entry in tried(self.trials, place)]

    @property
    def last_tried(self) -> list[Tried]:
        """Each configuration in the last round that it was in, the smallest learning rate first."""
        latest = {entry.configuration: entry for entry in self.tried}
        return sorted(latest.values(), key=lambda entry: entry.configuration.order)

    def is_chosen(self, entry: Tried) -> bool:
        """The configuration of its runs, in its last round."""
        return entry.configuration == self.chosen and entry in self.last_tried

    @property
    def rounds(self) -> int:
        """Rounds that have begun."""
        return 1 + max((t.round for t in self.trials), default=-1)

    @property
    def used(self) -> float:
        """What its trials took of the budget."""
        return cost(self.unit, self.trials)

    @property
    def compares_rates(self) -> bool:
        """At least two learning rates trained. Not so where its space has none, or its budget ended after one trial."""
        return len({t.rate for t in self.trials if t.status is not RunStatus.CANCELLED}) > 1

    @property
    def edges(self) -> dict[Parameter, Edge]:
        """The hyperparameters whose chosen value is at an end of the search: a better value may lie beyond it."""
        values = self.chosen.values if self.chosen else {}
        ends = {name: edge(name, self.space.dimensions[name], value) for name, value in values.items()}
        return {name: end for name, end in ends.items() if end}

    @property
    def edge(self) -> Edge | None:
        """The same of the learning rate."""
        return self.edges.get("learning_rate")

    @property
    def further(self) -> DimensionSpec | None:
        """A dimension of equal size that is shifted beyond the chosen learning rate, so that it lies inside. None where
        the rate is not at an end, and where the new rates would exceed the largest allowed or not differ in their first
        three digits."""
        dimension = self.space.learning_rate
        if self.edge is None or dimension is None:
            return None
        if dimension.values is None:
            return _shifted_range(dimension, self.edge)
        rates = sorted(dimension.values)
        outwards = rates if self.edge == "largest" else rates[::-1]
        new = len(outwards) // 2
        end, step = outwards[-1], outwards[-1] / outwards[-2]
        beyond = [float(f"{end * step**place:.3g}") for place in range(1, new + 1)]
        moved = tuple(sorted([*outwards[new:], *beyond]))
        if len({*moved}) < len(moved) or moved[-1] > MAX_LEARNING_RATE:
            return None
        return DimensionSpec(values=moved)

    @property
    def rival(self) -> Rival | None:
        """The closest of the last round's configurations that the validation split cannot distinguish from the chosen
        one.

        The items' part of a planned interval (`power.detectable_difference`), and from two seeds a configuration on the
        seeds' too. None where nothing is chosen, and where a metric has no score on the validation split.
        """
        last = {t.configuration: t for t in tried(self.trials, self.rounds - 1) if t.score is not None and not t.lost}
        if self.chosen is None or self.chosen not in last or len(last) < 2:
            return None
        best = last.pop(self.chosen)
        closest = max(last.values(), key=lambda t: t.score or 0.0)
        assert best.score is not None and closest.score is not None  # noqa: S101  (those without are left out)
        items = min(trial.items for trial in (*best.trials, *closest.trials))
        if items < 2:
            return None
        within = detectable_difference(items, len(best.trials), best.score, graded=self.graded)
        behind = best.score - closest.score
        return Rival(closest.configuration, closest.rate, behind, within, items) if behind <= within else None

    @property
    def failure(self) -> Failure | None:
        """The most common reason for which trials failed."""
        reasons = most_common(trial.failure for trial in self.trials if trial.failure)
        return reasons[0][0] if reasons else None

    @property
    def steps(self) -> int:
        """Optimizer steps of all its trials."""
        return sum(t.steps for t in self.trials)

    @property
    def tokens(self) -> int:
        """Tokens that its trials trained on, of those that ended well."""
        return sum(t.tokens or 0 for t in self.trials)

    @property
    def seconds(self) -> float:
        """Seconds that its trials occupied a device."""
        return sum(t.seconds for t in self.trials)


def _shifted_range(dimension: DimensionSpec, end: Edge) -> DimensionSpec | None:
    """Half its width further out."""
    low, high = bounds(dimension)
    half = (log(high) - log(low)) / 2 if is_log("learning_rate", dimension) else (high - low) / 2
    shift = half if end == "largest" else -half

    def moved(value: float) -> float:
        new = exp(log(value) + shift) if is_log("learning_rate", dimension) else value + shift
        return float(f"{new:.3g}")

    if not 0 < moved(low) < moved(high) <= MAX_LEARNING_RATE:
        return None
    return DimensionSpec(low=moved(low), high=moved(high), log=dimension.log)


def trying(spec: StudySpec, rates: Mapping[str, DimensionSpec | None]) -> StudySpec:
    """The same study, with other learning rates to try for some arms: equally many."""
    arms = [
        arm.model_copy(update={"search": spec.space(arm).model_copy(update={"learning_rate": rates[arm.title]})})
        if rates.get(arm.title)
        else arm
        for arm in spec.arms
    ]
    return spec.model_copy(update={"arms": arms})
