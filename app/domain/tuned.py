"""What tuning made of an arm: the rates that it tried, the one that it took, and what that cost."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from app.domain.runs import Failure
from app.domain.studies import ArmSpec, StudySpec
from app.domain.tuning import Chosen, Hopeless, NoTuning, Step, Trial, Tried, next_step, tried


@dataclass(frozen=True)
class ArmTuning:
    """An arm's trials so far."""

    rates: tuple[float, ...]
    """That it began with, smallest first."""
    trials: tuple[Trial, ...]
    step: Step
    """What follows from them."""

    @classmethod
    def of(cls, spec: StudySpec, arm: ArmSpec, trials: Sequence[Trial]) -> "ArmTuning | None":
        """From a study's trials; None without tuning."""
        if isinstance(spec.tuning, NoTuning):
            return None
        own, rates = tuple(t for t in trials if t.arm == arm.title), spec.rates(arm)
        return cls(rates, own, next_step(spec.tuning, rates, own))

    @property
    def chosen(self) -> float | None:
        """The rate that its runs take; None while there is none."""
        return self.step.rate if isinstance(self.step, Chosen) else None

    @property
    def hopeless(self) -> bool:
        """All trials of a round failed, so that the arm has no runs."""
        return isinstance(self.step, Hopeless)

    @property
    def tried(self) -> list[Tried]:
        """Every rate of every round, round by round."""
        return [one for place in range(self.rounds) for one in tried(self.trials, place)]

    @property
    def rounds(self) -> int:
        """Rounds that have begun."""
        return 1 + max((t.round for t in self.trials), default=-1)

    @property
    def edge(self) -> Literal["smallest", "largest"] | None:
        """The chosen rate is the first or the last of the row: a better one may lie beyond it."""
        if self.chosen is None or len(self.rates) < 2:
            return None
        ends: dict[float, Literal["smallest", "largest"]] = {self.rates[0]: "smallest", self.rates[-1]: "largest"}
        return ends.get(self.chosen)

    @property
    def failure(self) -> Failure | None:
        """The most common reason for which trials failed."""
        reasons = [t.failure for t in self.trials if t.failure]
        codes = Counter(reason.code for reason in reasons)
        return next((r for r in reasons if r.code is codes.most_common(1)[0][0]), None) if reasons else None

    @property
    def steps(self) -> int:
        """Optimizer steps of all its trials."""
        return sum(t.steps for t in self.trials)

    @property
    def tokens(self) -> int:
        """Tokens that its trials trained on, of those that ended well."""
        return sum(t.tokens or 0 for t in self.trials)
