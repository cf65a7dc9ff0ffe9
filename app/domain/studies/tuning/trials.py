"""Trials of a study's tuning, and the configurations that they tried."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from statistics import fmean
from typing import NamedTuple

from app.domain.failures import Failure
from app.domain.runs.result import RunResult
from app.domain.runs.status import RunStatus
from app.domain.studies.tuning.search_space import Configuration
from app.domain.studies.tuning.tuning import BudgetUnit


@dataclass(frozen=True)
class Trial:
    """A run at one of the configurations to try."""

    run_id: int
    arm: str
    configuration: Configuration
    rate: float
    """The learning rate that it trained at, its own or the arm's."""
    round: int
    seed: int
    status: RunStatus
    score: float | None = None
    """The verdict's metric on the validation split, with the weights that were kept; None where it needs generated
    text, or the trial has none."""
    loss: float | None = None
    """On the validation split, of the same weights."""
    items: int = 0
    """Items of the validation split."""
    steps: int = 0
    """Optimizer steps that it took, however it ended."""
    tokens: int | None = None
    """Tokens that it trained on; None where it did not end well."""
    seconds: float = 0.0
    """That it occupied a device, however it ended."""
    shared: bool = False
    """It trained together with others: the seconds are its share of theirs."""
    failure: Failure | None = None

    @property
    def usable(self) -> bool:
        """It has a finite validation loss."""
        return self.status is RunStatus.SUCCEEDED and self.loss is not None and isfinite(self.loss)


class Reached(NamedTuple):
    """The validation results of a run's best checkpoint."""

    score: float | None = None
    loss: float | None = None
    items: int = 0


def reached(result: RunResult) -> Reached:
    """Score and loss of a run's best checkpoint on the validation split, and its number of items."""
    validations = [e for e in result.evaluations if e.subject == "adapted" and e.split == "validation"]
    kept = next((e for e in validations if e.step == result.best_step), validations[-1] if validations else None)
    return Reached(kept.score, kept.loss, kept.n) if kept else Reached()


@dataclass(frozen=True)
class Tried:
    """A configuration with its trials of one round, one per seed."""

    configuration: Configuration
    round: int
    trials: tuple[Trial, ...]

    @property
    def rate(self) -> float:
        """The learning rate that they trained at."""
        return self.trials[0].rate

    @property
    def score(self) -> float | None:
        """Mean over the trials that ended well."""
        return _mean([t.score for t in self.trials if t.usable])

    @property
    def loss(self) -> float | None:
        """The same of the loss."""
        return _mean([t.loss for t in self.trials if t.usable])

    @property
    def ended(self) -> bool:
        return all(t.status.terminal for t in self.trials)

    @property
    def lost(self) -> int:
        """Trials that ended without a usable result."""
        return sum(t.status.terminal and not t.usable for t in self.trials)

    @property
    def order(self) -> tuple[float, ...]:
        """Sorts by: fewest lost trials, then the best score, then the lowest loss, then the smallest values."""
        score, loss = self.score, self.loss
        better = (0.0 if score is None else -score, float("inf") if loss is None else loss)
        return (self.lost, *better, *self.configuration.order)


def tried(trials: Sequence[Trial], round_: int) -> list[Tried]:
    """The configurations of a round, the smallest learning rate first."""
    by_configuration: dict[Configuration, list[Trial]] = {}
    for trial in trials:
        if trial.round == round_:
            by_configuration.setdefault(trial.configuration, []).append(trial)
    return [
        Tried(configuration, round_, tuple(by_configuration[configuration]))
        for configuration in sorted(by_configuration, key=lambda one: one.order)
    ]


def cost(unit: BudgetUnit, trials: Sequence[Trial]) -> float:
    """What trials took of a budget. Tokens of a trial that did not end well are those of its steps, at the mean tokens
    per step of the others."""
    match unit:
        case "trials":
            return len(trials)
        case "seconds":
            return sum(trial.seconds for trial in trials)
    steps = sum(trial.steps for trial in trials if trial.tokens is not None)
    known = sum(trial.tokens for trial in trials if trial.tokens is not None)
    lost_steps = sum(trial.steps for trial in trials if trial.tokens is None)
    return known + (lost_steps * known / steps if steps else 0.0)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
