"""Tuning of learning rates: the rates that an arm tries, for how long, and the one that its runs use.

A trial is a run at one rate with a seed of its own. It is judged on the validation split and never reads the test
split. Every arm of a study has the same tuning budget: equal numbers of rates, seeds and steps.

    grid      every rate trains with the full budget of a run
    halving   successive halving (Jamieson & Talwalkar 2016, arXiv 1502.07943): the best n/η of n rates advance to a
              round that is η times as long and trains from the start; the last round has the full budget of a run

The rates are given, or a geometric grid around the arm's own rate. Pure functions: trials in, the next step out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count as naturals
from itertools import islice
from math import isfinite
from statistics import fmean
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from app.domain.failures import Failure
from app.domain.messages import _
from app.domain.runs.result import RunResult
from app.domain.runs.status import RunStatus
from app.domain.validation import invalid_field

MOST_RATES = 64
FIRST_SEED = 1_000_000
"""The first seed of trials: the study's own seeds do not choose the rate."""


class Round(NamedTuple):
    """Some rates, each for a share of a run's budget."""

    rates: int
    share: float


class NoTuning(BaseModel):
    """Every arm runs at one rate: its own, or its method's default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["none"] = "none"

    @property
    def rounds(self) -> tuple[Round, ...]:
        """No rounds."""
        return ()

    @property
    def seeds(self) -> int:
        """No trials."""
        return 0


class _Search(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    rates: int = Field(default=3, ge=2, le=MOST_RATES)
    """Rates per arm."""
    factor: float = Field(default=3.0, ge=1.05, le=100)
    """Ratio of neighbouring rates, where an arm does not give its rates."""
    seeds: int = Field(default=1, ge=1, le=20)
    """Seeds per rate, none of them a seed of the study."""

    def around(self, rate: float) -> tuple[float, ...]:
        """A geometric grid with a rate in its middle, smallest first."""
        middle = (self.rates - 1) / 2
        return tuple(float(f"{rate * self.factor ** (place - middle):.3g}") for place in range(self.rates))


class GridTuning(_Search):
    """Every rate trains as long as a run."""

    kind: Literal["grid"] = "grid"

    @property
    def rounds(self) -> tuple[Round, ...]:
        """One."""
        return (Round(self.rates, 1.0),)


class HalvingTuning(_Search):
    """Many rates train briefly, the best ones longer."""

    kind: Literal["halving"] = "halving"
    rates: int = Field(default=6, ge=2, le=MOST_RATES)
    """Rates per arm in the first round."""
    eta: int = Field(default=3, ge=2, le=16)
    """Reduction factor η: one rate in η advances to the next round, which is η times as long."""

    @model_validator(mode="after")
    def _a_second_round_has_a_choice(self) -> "HalvingTuning":
        if self.rates < 2 * self.eta:
            what = _(
                "%(rates)s rates with a reduction factor of %(eta)s leave no choice for a second round",
                rates=self.rates,
                eta=self.eta,
            )
            raise invalid_field(
                "rates", what, _("Use at least %(least)s rates, a smaller eta, or a grid", least=2 * self.eta)
            )
        return self

    @property
    def rounds(self) -> tuple[Round, ...]:
        """Rounds while at least two rates are left."""
        sizes = [self.rates]
        while sizes[-1] // self.eta >= 2:
            sizes.append(sizes[-1] // self.eta)
        return tuple(Round(size, self.eta ** -(len(sizes) - 1.0 - place)) for place, size in enumerate(sizes))


def _named(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


TuningSpec = Annotated[NoTuning | GridTuning | HalvingTuning, Field(discriminator="kind"), BeforeValidator(_named)]
"""A kind alone, such as `grid`, takes the defaults."""


def trials_owed(tuning: TuningSpec) -> int:
    """Trials of one arm, if none fails."""
    return tuning.seeds * sum(round_.rates for round_ in tuning.rounds)


def budget(tuning: TuningSpec) -> float:
    """Their cost, in runs of the full budget."""
    return tuning.seeds * sum(round_.rates * round_.share for round_ in tuning.rounds)


@dataclass(frozen=True)
class Trial:
    """A run at one of the rates to try."""

    run_id: int
    arm: str
    rate: float
    round: int
    seed: int
    status: RunStatus
    score: float | None = None
    """The verdict's metric on the validation split, with the weights that were kept; None where it needs generated
    text, or the trial has none."""
    loss: float | None = None
    """On the validation split, of the same weights."""
    items: int = 0
    """Of the validation split that these are over."""
    steps: int = 0
    """Optimizer steps that it took, however it ended."""
    tokens: int | None = None
    """Tokens that it trained on; None where it did not end well."""
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
    """A rate with its trials of one round, one per seed."""

    rate: float
    round: int
    trials: tuple[Trial, ...]

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
        """All its trials have ended."""
        return all(t.status.terminal for t in self.trials)

    @property
    def lost(self) -> int:
        """Trials that ended without a usable result."""
        return sum(t.status.terminal and not t.usable for t in self.trials)

    @property
    def order(self) -> tuple[float, ...]:
        """Sorts by: fewest lost trials, then the best score, then the lowest loss, then the smallest rate."""
        score, loss = self.score, self.loss
        return (self.lost, 0.0 if score is None else -score, float("inf") if loss is None else loss, self.rate)


@dataclass(frozen=True)
class Wait:
    """Trials have not ended."""


@dataclass(frozen=True)
class Try:
    """Trials to queue."""

    round: int
    rates: tuple[float, ...]


@dataclass(frozen=True)
class Chosen:
    """The rate for the arm's runs."""

    rate: float


@dataclass(frozen=True)
class AllFailed:
    """Every trial of a round failed, so the arm has no rate to run at."""


Step = Wait | Try | Chosen | AllFailed


def next_step(tuning: TuningSpec, rates: Sequence[float], trials: Sequence[Trial]) -> Step:
    """The next step of an arm from its trials so far; `rates` are those of its first round.

    A failed or cancelled trial counts as the worst of its round and blocks nothing. A single remaining rate is chosen.
    """
    candidates = tuple(rates)
    for place in range(len(tuning.rounds)):
        rates_tried = tried(trials, place)
        if missing := tuple(rate for rate in candidates if rate not in {tried_rate.rate for tried_rate in rates_tried}):
            return Try(place, missing)
        if not all(tried_rate.ended for tried_rate in rates_tried):
            return Wait()
        ranked = sorted((t for t in rates_tried if t.loss is not None), key=lambda t: t.order)
        if not ranked:
            return AllFailed()
        last = place + 1 == len(tuning.rounds)
        if last or len(ranked) == 1:
            return Chosen(ranked[0].rate)
        candidates = tuple(tried_rate.rate for tried_rate in ranked[: tuning.rounds[place + 1].rates])
    return AllFailed()


def tried(trials: Sequence[Trial], round_: int) -> list[Tried]:
    """The rates of a round, smallest first."""
    of_round = [trial for trial in trials if trial.round == round_]
    return [
        Tried(rate, round_, tuple(trial for trial in of_round if trial.rate == rate))
        for rate in sorted({trial.rate for trial in of_round})
    ]


def seeds_for(tuning: TuningSpec, taken: Sequence[int]) -> list[int]:
    """The seeds of a study's trials: the same for every arm, and none of the study's own."""
    return list(islice((seed for seed in naturals(FIRST_SEED) if seed not in taken), tuning.seeds))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
