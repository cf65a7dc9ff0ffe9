"""The search space of an arm: which hyperparameters its trials vary, and over which values.

A dimension is a list of values or a range. `batch_size`, `r` and `lora_alpha` take powers of two within a range,
`num_train_epochs` and `max_steps` whole numbers. A range of learning rates, batch sizes or ranks is logarithmic unless
it says otherwise (log-uniform, Bergstra & Bengio 2012, JMLR 13). Everything that is drawn is drawn from a seed.
"""

import random
from collections.abc import Collection, Iterator, Mapping
from itertools import count as naturals
from itertools import islice, product
from math import ceil, exp, floor, log, prod
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from app.domain.messages import Message, _
from app.domain.validation import invalid_field

Parameter = Literal[
    "learning_rate", "batch_size", "r", "lora_alpha", "num_train_epochs", "max_steps", "weight_decay", "warmup_steps"
]
PARAMETERS: tuple[Parameter, ...] = get_args(Parameter)
POWERS_OF_TWO: tuple[Parameter, ...] = ("batch_size", "r", "lora_alpha")
WHOLE: tuple[Parameter, ...] = ("num_train_epochs", "max_steps")
LOGARITHMIC: tuple[Parameter, ...] = ("learning_rate", *POWERS_OF_TWO)
MOST_VALUES = 64
MOST_COMBINATIONS = 4096
"""A finite space of at most so many combinations is shuffled; a larger one is drawn from."""
DRAWS = 1000
"""Before a space counts as exhausted."""


class Configuration(BaseModel):
    """The hyperparameters that a trial sets; what is None is the arm's own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    learning_rate: float | None = None
    batch_size: int | None = None
    """Rows per optimizer step: `per_device_train_batch_size` × `gradient_accumulation_steps`."""
    r: int | None = None
    lora_alpha: int | None = None
    """None keeps the arm's ratio of alpha to rank."""
    num_train_epochs: float | None = None
    max_steps: int | None = None
    weight_decay: float | None = None
    warmup_steps: float | None = None

    @property
    def values(self) -> dict[Parameter, float]:
        """Those that it sets."""
        return {name: value for name in PARAMETERS if (value := getattr(self, name)) is not None}

    @property
    def order(self) -> tuple[float, ...]:
        """Sorts by the smallest learning rate, then by the other values."""
        return tuple(self.values.values())


def _listed(value: Any) -> Any:
    return {"values": value} if isinstance(value, list | tuple) else value


class DimensionSpec(BaseModel):
    """Values to choose from, or a range. A list alone is short for `values`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    values: tuple[float, ...] | None = Field(default=None, min_length=1, max_length=MOST_VALUES)
    low: float | None = None
    high: float | None = None
    log: bool | None = None
    """A range is logarithmic; None: as is usual for the hyperparameter."""

    @model_validator(mode="after")
    def _consistent(self) -> "DimensionSpec":
        if self.values is not None:
            if self.low is not None or self.high is not None or self.log is not None:
                raise invalid_field("values", _("Values and a range are given"), _("Keep one of them"))
            for place, value in enumerate(self.values):
                if value in self.values[:place]:
                    raise invalid_field(
                        f"values.{place}",
                        _("The value %(value)g is given twice", value=value),
                        _("Change or remove it"),
                    )
            return self
        if self.low is None or self.high is None:
            missing = "low" if self.low is None else "high"
            raise invalid_field(
                missing, _("A range needs low and high"), _("Give both, or a list of values such as [8, 16, 32]")
            )
        if self.low >= self.high:
            what = _("The range from %(low)g to %(high)g is empty", low=self.low, high=self.high)
            raise invalid_field("high", what, _("Set high above low, or give a list of values"))
        if self.log and self.low <= 0:
            raise _zero_on_a_log_scale(self.low, "low")
        return self


Dimension = Annotated[DimensionSpec, BeforeValidator(_listed)]


class SearchSpace(BaseModel):
    """What an arm's trials vary. What is not named stays as the arm and the budget set it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    learning_rate: Dimension | None = None
    batch_size: Dimension | None = None
    """Rows per optimizer step. No micro-batch is larger than the budget's `per_device_train_batch_size`."""
    r: Dimension | None = None
    """Rank, of methods that have one; alpha keeps its ratio to it unless `lora_alpha` is searched."""
    lora_alpha: Dimension | None = None
    num_train_epochs: Dimension | None = None
    max_steps: Dimension | None = None
    weight_decay: Dimension | None = None
    warmup_steps: Dimension | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "SearchSpace":
        if self.num_train_epochs and self.max_steps:
            what = _("Epochs and steps are both searched, and max_steps overrides num_train_epochs")
            raise invalid_field("max_steps", what, _("Search one of them"))
        for name, dimension in self.dimensions.items():
            low, high = bounds(dimension)
            if dimension.values is None and is_log(name, dimension) and low <= 0:
                raise _zero_on_a_log_scale(low, f"{name}.low")
            if name == "warmup_steps" and 0 < low < 1 <= high:
                what = _("Below 1 warmup_steps is a share of the steps, from 1 on a number of steps")
                raise invalid_field(name, what, _("Search either shares or numbers of steps"))
            if name == "warmup_steps" and dimension.values is None and low < 1 < high:
                what = _("Below 1 warmup_steps is a share of the steps, from 1 on a number of steps")
                raise invalid_field(f"{name}.high", what, _("Use at most 1, or a list of values"))
            if dimension.values is None and finite_values(name, dimension) == ():
                kind = _("power of two") if name in POWERS_OF_TWO else _("whole number")
                what = _("There is no %(kind)s from %(low)g to %(high)g", kind=kind, low=low, high=high)
                raise invalid_field(f"{name}.high", what, _("Widen the range, or give a list of values"))
            if name in (*POWERS_OF_TWO, "max_steps"):
                for place, value in enumerate(dimension.values or ()):
                    if value != int(value):
                        what = _("%(value)g is not a whole number", value=value)
                        raise invalid_field(f"{name}.values.{place}", what, _("Use whole numbers"))
        return self

    @property
    def dimensions(self) -> dict[Parameter, DimensionSpec]:
        """Those that it has, by hyperparameter."""
        return {name: dimension for name in PARAMETERS if (dimension := getattr(self, name)) is not None}

    @property
    def only_rates(self) -> bool:
        """It varies the learning rate alone."""
        return set(self.dimensions) == {"learning_rate"}

    @property
    def size(self) -> float:
        """Number of configurations, ∞ where a dimension is continuous."""
        known = [finite_values(name, dimension) for name, dimension in self.dimensions.items()]
        return prod(len(values) if values is not None else float("inf") for values in known)

    def grid(self, points: int) -> tuple[Configuration, ...]:
        """Every combination, with `points` evenly spaced values of a range; the smallest learning rate first."""
        names = list(self.dimensions)
        columns = self._columns(points)
        return tuple(from_values(dict(zip(names, values, strict=True))) for values in product(*columns))

    def grid_size(self, points: int) -> int:
        """The length of `grid(points)`, which may be too large to build."""
        return prod(len(column) for column in self._columns(points))

    def _columns(self, points: int) -> list[tuple[float, ...]]:
        return [_points(name, dimension, points) for name, dimension in self.dimensions.items()]

    def extremes(self) -> Iterator[tuple[Parameter, float]]:
        """Every value of a list, and both ends of a range."""
        for name, dimension in self.dimensions.items():
            for value in dimension.values or bounds(dimension):
                yield name, value

    def draw(self, count: int, seed: int, without: Collection[Configuration] = ()) -> tuple[Configuration, ...]:
        """Random configurations, none twice; fewer where the space has no more. The same seed draws the same sequence,
        whatever has been taken from it."""
        taken = set(without)
        return tuple(islice((one for one in self._sequence(seed) if one not in taken), count))

    def _sequence(self, seed: int) -> Iterator[Configuration]:
        rng = random.Random(seed)
        if self.size <= MOST_COMBINATIONS:
            everything = list(self.grid(MOST_COMBINATIONS))
            rng.shuffle(everything)
            yield from everything
            return
        drawn: set[Configuration] = set()
        misses = naturals()
        while next(misses) < DRAWS + len(drawn):
            one = from_values({name: _draw(name, d, rng) for name, d in self.dimensions.items()})
            if one not in drawn:
                drawn.add(one)
                yield one


def is_log(name: Parameter, dimension: DimensionSpec) -> bool:
    return dimension.log if dimension.log is not None else name in LOGARITHMIC


def finite_values(name: Parameter, dimension: DimensionSpec) -> tuple[float, ...] | None:
    """Its values, smallest first; None where it is continuous or has very many."""
    if dimension.values is not None:
        return tuple(sorted(dimension.values))
    low, high = bounds(dimension)
    if name in POWERS_OF_TWO:
        return tuple(float(2**power) for power in range(32) if low <= 2**power <= high)
    if name in WHOLE:
        first, last = ceil(low), floor(high)
        return tuple(map(float, range(first, last + 1))) if last - first < MOST_VALUES else None
    return None


def edge(name: Parameter, dimension: DimensionSpec, value: float) -> Literal["smallest", "largest"] | None:
    """Which end of the dimension a value is at, if any; of a range, within a twentieth of it."""
    values = finite_values(name, dimension)
    if values is not None:
        at: dict[float, Literal["smallest", "largest"]] = {values[0]: "smallest", values[-1]: "largest"}
        return at.get(value) if len(values) > 1 else None
    low, high = ends(name, dimension)
    place = _place(value, low, high, logarithmic=is_log(name, dimension))
    return "smallest" if place <= 0.05 else "largest" if place >= 0.95 else None


def bounds(dimension: DimensionSpec) -> tuple[float, float]:
    if dimension.values is not None:
        return min(dimension.values), max(dimension.values)
    assert dimension.low is not None and dimension.high is not None  # noqa: S101 a validator holds it
    return dimension.low, dimension.high


def ends(name: Parameter, dimension: DimensionSpec) -> tuple[float, float]:
    """The smallest and the largest value that is drawn: of a whole number those within its bounds."""
    low, high = bounds(dimension)
    return (ceil(low), floor(high)) if name in WHOLE else (low, high)


def _place(value: float, low: float, high: float, *, logarithmic: bool) -> float:
    if logarithmic:
        value, low, high = log(value), log(low), log(high)
    return (value - low) / (high - low)


def _between(share: float, name: Parameter, dimension: DimensionSpec) -> float:
    """The value at a share of a range, three digits long."""
    low, high = ends(name, dimension)
    logarithmic = is_log(name, dimension)
    value = exp(log(low) + share * (log(high) - log(low))) if logarithmic else low + share * (high - low)
    value = round(value) if name in WHOLE else float(f"{value:.3g}")
    return min(max(value, low), high)


def _points(name: Parameter, dimension: DimensionSpec, points: int) -> tuple[float, ...]:
    values = finite_values(name, dimension)
    if values is not None:
        if dimension.values is not None or len(values) <= points:
            return values
        return tuple(dict.fromkeys(values[round(i * (len(values) - 1) / max(1, points - 1))] for i in range(points)))
    return tuple(dict.fromkeys(_between(i / max(1, points - 1), name, dimension) for i in range(points)))


def _draw(name: Parameter, dimension: DimensionSpec, rng: random.Random) -> float:
    values = finite_values(name, dimension)
    return rng.choice(values) if values is not None else _between(rng.random(), name, dimension)


def from_values(values: Mapping[Parameter, float]) -> Configuration:
    """The configuration with one value per hyperparameter."""
    whole = (*POWERS_OF_TWO, "max_steps")
    return Configuration(**{name: int(value) if name in whole else value for name, value in values.items()})


def _zero_on_a_log_scale(low: float, path: str) -> Exception:
    what: Message = _("A logarithmic range cannot begin at %(low)g", low=low)
    return invalid_field(path, what, _("Begin above 0, set log to false, or give a list of values"))
