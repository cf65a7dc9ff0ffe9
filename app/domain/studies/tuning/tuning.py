"""Tuning: how an arm's hyperparameters are searched, and the budget of the search, which is the same for every arm.

A trial is a run at one configuration with a seed of its own. It is judged on the validation split and never reads the
test split.

    grid      every combination of values trains with the full budget of a run
    random    configurations drawn at random (Bergstra & Bengio 2012, JMLR 13)
    halving   successive halving (Jamieson & Talwalkar 2016, arXiv 1502.07943): the best n/η of n configurations advance
              to a round that is η times as long and trains from the start; the last round has the full budget of a run
    tpe       the tree-structured Parzen estimator (Bergstra et al. 2011, NeurIPS 24), by Optuna: some configurations at
              random, then each from the results so far

An arm without a search space varies its learning rate: over a geometric series around its own, or a range of two
decades. `next_step.py` says what follows from the trials so far.
"""

from collections.abc import Sequence
from itertools import count as naturals
from itertools import islice
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from app.domain.messages import _
from app.domain.runs.training import MAX_LEARNING_RATE, Seed
from app.domain.studies.tuning.search_space import DimensionSpec, SearchSpace
from app.domain.validation import invalid_field

MOST_RATES = 64
MOST_TRIALS = 256
"""Configurations of an arm."""
FIRST_SEED = 1_000_000
"""The first seed of trials: the study's own seeds do not choose the configuration."""
DECADES = 10.0
"""A random search covers rates from the arm's own divided by this to its own times this."""
BudgetUnit = Literal["trials", "tokens", "seconds"]


class Round(NamedTuple):
    """Some configurations, each for a share of a run's budget."""

    rates: int
    share: float


class NoTuning(BaseModel):
    """Every arm runs at its own hyperparameters, or at its method's defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["none"] = "none"

    @property
    def rounds(self) -> tuple[Round, ...]:
        return ()

    @property
    def seeds(self) -> int:
        return 0

    @property
    def unit(self) -> BudgetUnit:
        return "trials"


class _Tuning(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    seeds: int = Field(default=1, ge=1, le=20)
    """Seeds per configuration, none of them a seed of the study."""


class _Series(_Tuning):
    rates: int = Field(default=3, ge=2, le=MOST_RATES)
    """Learning rates per arm; of a range, as many values."""
    factor: float = Field(default=3.0, ge=1.05, le=100)
    """Ratio of neighbouring rates, where an arm does not give its search space."""

    @property
    def unit(self) -> BudgetUnit:
        """The budget is a number of trials."""
        return "trials"

    def around(self, rate: float) -> tuple[float, ...]:
        """A geometric series with a rate in its middle, smallest first."""
        middle = (self.rates - 1) / 2
        return tuple(float(f"{rate * self.factor ** (place - middle):.3g}") for place in range(self.rates))

    def usual_space(self, rate: float) -> SearchSpace:
        """The search space of an arm that gives none."""
        return SearchSpace(learning_rate=DimensionSpec(values=self.around(rate)))


class GridTuning(_Series):
    """Every combination trains as long as a run."""

    kind: Literal["grid"] = "grid"

    @property
    def rounds(self) -> tuple[Round, ...]:
        return (Round(self.rates, 1.0),)


class HalvingTuning(_Series):
    """Many configurations train briefly, the best ones longer."""

    kind: Literal["halving"] = "halving"
    rates: int = Field(default=6, ge=2, le=MOST_RATES)
    """Configurations per arm in the first round: learning rates, or random ones of a larger space."""
    eta: int = Field(default=3, ge=2, le=16)
    """Reduction factor η: one configuration in η advances to the next round, which is η times as long."""
    seed: Seed = 0
    """Draws the configurations of the first round."""

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
        """Rounds while at least two configurations are left."""
        sizes = [self.rates]
        while sizes[-1] // self.eta >= 2:
            sizes.append(sizes[-1] // self.eta)
        return tuple(Round(size, self.eta ** -(len(sizes) - 1.0 - place)) for place, size in enumerate(sizes))


class _Budgeted(_Tuning):
    budget: float = Field(default=12, gt=0, le=1e15)
    """Per arm, in `unit`s."""
    unit: BudgetUnit = "trials"
    """`trials`; `tokens` that trials train on; `seconds` that trials occupy a device."""
    seed: Seed = 0
    """Draws the configurations."""

    @model_validator(mode="after")
    def _budget_has_a_choice(self) -> "_Budgeted":
        if self.unit != "trials":
            return self
        if self.budget != int(self.budget):
            what = _("%(budget)g is not a number of trials", budget=self.budget)
            raise invalid_field("budget", what, _("Use a whole number"))
        if self.configurations is not None and not 2 <= self.configurations <= MOST_TRIALS:
            what = _(
                "A budget of %(budget)s trials with %(seeds)s seeds per configuration fits %(fits)s configurations",
                budget=int(self.budget),
                seeds=self.seeds,
                fits=self.configurations,
            )
            least, most = 2 * self.seeds, MOST_TRIALS * self.seeds
            raise invalid_field("budget", what, _("Use %(least)s to %(most)s trials", least=least, most=most))
        return self

    @property
    def configurations(self) -> int | None:
        """Per arm; None where the budget is not a number of trials."""
        return int(self.budget) // self.seeds if self.unit == "trials" else None

    @property
    def rounds(self) -> tuple[Round, ...]:
        """One; its size is unknown where the budget is not a number of trials."""
        return (Round(self.configurations or 0, 1.0),)

    def usual_space(self, rate: float) -> SearchSpace:
        """The search space of an arm that gives none."""
        low, high = (float(f"{bound:.3g}") for bound in (rate / DECADES, min(rate * DECADES, MAX_LEARNING_RATE)))
        return SearchSpace(learning_rate=DimensionSpec(low=low, high=high))


class RandomTuning(_Budgeted):
    """Configurations drawn at random train as long as a run."""

    kind: Literal["random"] = "random"


class TpeTuning(_Budgeted):
    """Configurations that Optuna's TPE sampler suggests from the results so far train as long as a run."""

    kind: Literal["tpe"] = "tpe"


def _named(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


AnyTuning = NoTuning | GridTuning | RandomTuning | HalvingTuning | TpeTuning
Search = GridTuning | RandomTuning | HalvingTuning | TpeTuning
TuningSpec = Annotated[AnyTuning, Field(discriminator="kind"), BeforeValidator(_named)]
"""A kind alone, such as `grid`, takes the defaults."""


def seeds_for(tuning: AnyTuning, taken: Sequence[int]) -> list[int]:
    """The seeds of a study's trials: the same for every arm, and none of the study's own."""
    return list(islice((seed for seed in naturals(FIRST_SEED) if seed not in taken), tuning.seeds))


def first_configurations(tuning: GridTuning | HalvingTuning, space: SearchSpace) -> int:
    """How many configurations a grid or a first round of halving begins with."""
    return space.grid_size(tuning.rates) if isinstance(tuning, GridTuning) else tuning.rates


def trials_owed(tuning: AnyTuning, space: SearchSpace) -> int | None:
    """Trials of one arm, if none fails; None where the budget is not a number of trials."""
    match tuning:
        case NoTuning():
            return 0
        case GridTuning():
            return tuning.seeds * first_configurations(tuning, space)
        case HalvingTuning():
            return tuning.seeds * sum(round_.rates for round_ in tuning.rounds)
        case _:
            return tuning.seeds * tuning.configurations if tuning.configurations is not None else None


def runs_worth(tuning: AnyTuning, space: SearchSpace) -> float | None:
    """Their cost, in runs of the full budget; None where it is not known in advance."""
    if isinstance(tuning, HalvingTuning):
        return tuning.seeds * sum(round_.rates * round_.share for round_ in tuning.rounds)
    return trials_owed(tuning, space)
