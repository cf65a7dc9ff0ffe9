"""The tuning of one arm: the rates tried, the chosen one, and the cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from app.domain.comparison.model import most_common
from app.domain.failures import Failure
from app.domain.runs.training import MAX_LEARNING_RATE
from app.domain.studies.arms import ArmSpec
from app.domain.studies.power import detectable_difference
from app.domain.studies.spec import StudySpec
from app.domain.studies.tuning import AllFailed, Chosen, NoTuning, Step, Trial, Tried, next_step, tried
from app.domain.tasks import METRICS


@dataclass(frozen=True)
class Rival:
    """A rate that is not distinguishable from the chosen one."""

    rate: float
    behind: float
    """How far its score is behind, as a fraction."""
    within: float
    """Differences up to this occur between equally good rates."""
    items: int
    """Of the validation split."""


@dataclass(frozen=True)
class ArmTuning:
    """An arm's trials so far."""

    rates: tuple[float, ...]
    """Of the first round, smallest first."""
    trials: tuple[Trial, ...]
    step: Step
    """The next step."""
    graded: bool
    """The items of the study's metric have values between 0 and 1."""

    @classmethod
    def of(cls, spec: StudySpec, arm: ArmSpec, trials: Sequence[Trial]) -> "ArmTuning | None":
        """From a study's trials; None without tuning."""
        if isinstance(spec.tuning, NoTuning):
            return None
        own, rates = tuple(t for t in trials if t.arm == arm.title), spec.rates(arm)
        return cls(rates, own, next_step(spec.tuning, rates, own), METRICS[spec.verdict_metric].graded)

    @property
    def chosen(self) -> float | None:
        """The rate of its runs; None until it is chosen."""
        return self.step.rate if isinstance(self.step, Chosen) else None

    @property
    def failed(self) -> bool:
        """All trials of a round failed, so the arm has no runs."""
        return isinstance(self.step, AllFailed)

    @property
    def tried(self) -> list[Tried]:
        """Every rate of every round, round by round."""
        return [tried_rate for place in range(self.rounds) for tried_rate in tried(self.trials, place)]

    @property
    def last_tried(self) -> list[Tried]:
        """Each rate in the last round that it was in, smallest first."""
        latest = {tried_rate.rate: tried_rate for tried_rate in self.tried}
        return [latest[rate] for rate in sorted(latest)]

    def is_chosen(self, tried_rate: Tried) -> bool:
        """The rate of its runs, in its last round."""
        return tried_rate.rate == self.chosen and tried_rate in self.last_tried

    @property
    def rounds(self) -> int:
        """Rounds that have begun."""
        return 1 + max((t.round for t in self.trials), default=-1)

    @property
    def edge(self) -> Literal["smallest", "largest"] | None:
        """Which end of the search the chosen rate is at, if any: a better rate may lie beyond it."""
        if self.chosen is None or len(self.rates) < 2:
            return None
        ends: dict[float, Literal["smallest", "largest"]] = {self.rates[0]: "smallest", self.rates[-1]: "largest"}
        return ends.get(self.chosen)

    @property
    def further(self) -> tuple[float, ...]:
        """A grid of equal size that is shifted beyond the chosen rate, smallest first, so that the rate lies inside.
        Empty where the chosen rate is not at an end, or where the new rates would exceed the largest allowed."""
        if self.edge is None:
            return ()
        outwards = self.rates if self.edge == "largest" else self.rates[::-1]
        new = len(outwards) // 2
        end, step = outwards[-1], outwards[-1] / outwards[-2]
        beyond = [float(f"{end * step**place:.3g}") for place in range(1, new + 1)]
        moved = tuple(sorted([*outwards[new:], *beyond]))
        return moved if moved[-1] <= MAX_LEARNING_RATE else ()

    @property
    def rival(self) -> Rival | None:
        """The closest of the last round's rates that the validation split cannot distinguish from the chosen one.

        The items' part of a planned interval (`power.detectable_difference`), and from two seeds a rate on the seeds'
        too. None where nothing is chosen, and where a metric has no score on the validation split.
        """
        last = {t.rate: t for t in tried(self.trials, self.rounds - 1) if t.score is not None and not t.lost}
        if self.chosen not in last or len(last) < 2:
            return None
        best = last.pop(self.chosen)
        closest = max(last.values(), key=lambda t: t.score or 0.0)
        assert best.score is not None and closest.score is not None  # noqa: S101  (those without are left out)
        items = min(trial.items for trial in (*best.trials, *closest.trials))
        if items < 2:
            return None
        within = detectable_difference(items, len(best.trials), best.score, graded=self.graded)
        behind = best.score - closest.score
        return Rival(closest.rate, behind, within, items) if behind <= within else None

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


def trying(spec: StudySpec, rates: Mapping[str, Sequence[float]]) -> StudySpec:
    """The same study, with other rates to try for some arms: equally many."""
    arms = [
        arm.model_copy(update={"learning_rates": list(rates[arm.title])}) if rates.get(arm.title) else arm
        for arm in spec.arms
    ]
    return spec.model_copy(update={"arms": arms})
