"""The axes that a trade-off may have.

To add one, add it to `AXES`: the selects, the address, the drawing, the table and the CSV take it from there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from app.domain.comparison.costs.costs import Spread
from app.domain.comparison.costs.pareto import Better
from app.domain.comparison.grouping import ComparedRun
from app.domain.comparison.model import AnyComparison, ArmResult, RunOutcome
from app.domain.comparison.study import StudyComparison
from app.domain.runs.result import RunResult
from app.words.format import (
    NBSP,
    capitalized,
    decimal,
    duration,
    energy,
    file_size,
    hundred,
    memory,
    memory_unit,
    short_count,
)
from app.words.i18n import gettext as _
from app.words.runs.metrics import loss_unit, title

SHARED = ("peak_bytes", "reserved_bytes", "train_seconds", "wall_seconds", "tokens_per_second")
"""Columns of what a group of runs that trained together has in common."""
Units = Callable[[AnyComparison, float], tuple[float, str]]
"""From the largest value to what one unit of the axis is of it, and the unit's name."""


@dataclass(frozen=True)
class Axis:
    """A number of an arm over its seeds."""

    title: Callable[[AnyComparison], str]
    """Within a sentence: `peak memory`."""
    better: Better
    of: Callable[[RunResult], float | None]
    """From a run's result; None where it was not measured."""
    units: Units
    say: Callable[[float], str]
    """A value with its unit: `150 MiB`."""
    column: str
    """In the CSV, as it was measured: `peak_bytes`."""
    comparable: Callable[[AnyComparison], bool] = lambda comparison: True
    """Whether the values of different arms are comparable."""
    zero: bool = True
    """Nothing lies below zero, and the scale begins there."""
    most: float | None = None
    """In the axis's unit, if there is a largest value."""
    span: float = 0.0
    """The least that the axis spans, in its unit."""
    stretches: bool = True
    """Logarithmic where values lie far apart."""

    @property
    def is_cost(self) -> bool:
        """Less is better, and zero is free."""
        return self.better is Better.LOWER and self.zero

    def value(self, run: RunOutcome) -> float | None:
        """Value of a run; an imported one has costs and no result, and one that trained together with others no
        costs."""
        if run.result:
            return None if run.shared and self.column in SHARED else self.of(run.result)
        return run.costs.get(self.column) if isinstance(run, ComparedRun) else None

    def spread(self, arm: ArmResult) -> Spread | None:
        """Mean over seeds, with the smallest and the largest seed."""
        values = [value for run in arm.succeeded if (value := self.value(run)) is not None]
        return Spread.of(values) if values else None


@dataclass(frozen=True)
class Score(Axis):
    """The metric: its whiskers are the 95 % interval of the mean."""

    def spread(self, arm: ArmResult) -> Spread | None:
        """Mean and interval over items and seeds; the mean alone where the interval is unknown."""
        score = arm.score
        if score is None:
            return None
        if not score.usable:
            return Spread(score.mean, score.mean, score.mean)
        return Spread(score.mean, score.low, score.high)


def time_unit(most: float) -> tuple[float, str]:
    """Seconds, minutes from ten of them on, hours from ten of them on."""
    return (1.0, _("s")) if most < 600 else (60.0, _("min")) if most < 36_000 else (3600.0, _("h"))


def energy_unit(most: float) -> tuple[float, str]:
    """J, kJ from ten of them on, kWh from one on."""
    return (1.0, "J") if most < 1e4 else (1e3, "kJ") if most < 3.6e6 else (3.6e6, "kWh")


def known(comparison: AnyComparison) -> list[str]:
    """The names of the axes on which an arm has a value."""
    return [name for name, axis in AXES.items() if any(axis.spread(arm) for arm in comparison.arms)]


def axis_options(comparison: AnyComparison, *chosen: str) -> tuple[tuple[str, str], ...]:
    """Values and titles of a select of axes; one without a value is left out unless it is chosen."""
    names = {*known(comparison), *chosen}
    return tuple((name, capitalized(axis.title(comparison))) for name, axis in AXES.items() if name in names)


def _loss_unit(comparison: AnyComparison) -> str:
    return loss_unit(comparison.spec.task) if isinstance(comparison, StudyComparison) else _("nats")


def _nats(value: float) -> str:
    return f"{decimal(value, 3)}{NBSP}{_('nats')}"


def _test_loss(result: RunResult) -> float | None:
    evaluation = result.evaluation("adapted", "test")
    return evaluation.loss if evaluation else None


def _speed(result: RunResult) -> float | None:
    return result.tokens / result.clocks.train if result.clocks.train > 0 else None


_time = partial(
    Axis,
    better=Better.LOWER,
    units=lambda comparison, most: time_unit(most),
    say=duration,
    comparable=lambda comparison: comparison.times_comparable,
)

AXES: dict[str, Axis] = {
    "score": Score(
        title=lambda comparison: title(comparison.metric),
        better=Better.HIGHER,
        of=lambda result: None,
        units=lambda comparison, most: (0.01, "%"),
        say=lambda value: f"{hundred(value)}{NBSP}%",
        column="score",
        comparable=lambda comparison: comparison.scores_comparable,
        zero=False,
        most=100.5,
        span=6.0,
        stretches=False,
    ),
    "loss": Axis(
        title=lambda comparison: _("test loss"),
        better=Better.LOWER,
        of=_test_loss,
        units=lambda comparison, most: (1.0, _loss_unit(comparison)),
        say=_nats,
        column="loss",
        comparable=lambda comparison: comparison.scores_comparable,
        zero=False,
    ),
    "memory": Axis(
        title=lambda comparison: _("peak memory"),
        better=Better.LOWER,
        of=lambda result: result.memory.peak_bytes,
        units=lambda comparison, most: memory_unit(most),
        say=memory,
        column="peak_bytes",
        comparable=lambda comparison: comparison.memory_comparable,
    ),
    "time": _time(
        title=lambda comparison: _("train time"), of=lambda result: result.clocks.train, column="train_seconds"
    ),
    "wall": _time(
        title=lambda comparison: _("wall time"), of=lambda result: result.clocks.method_wall, column="wall_seconds"
    ),
    "trainable": Axis(
        title=lambda comparison: _("trainable parameters"),
        better=Better.LOWER,
        of=lambda result: result.parameters.trainable,
        units=lambda comparison, most: (1.0, ""),
        say=lambda value: _("%(number)s parameters", number=short_count(round(value))),
        column="trainable_parameters",
    ),
    "file": Axis(
        title=lambda comparison: _("file size"),
        better=Better.LOWER,
        of=lambda result: result.artifact_bytes or None,
        units=lambda comparison, most: memory_unit(most),
        say=file_size,
        column="artifact_bytes",
    ),
    "speed": Axis(
        title=lambda comparison: _("tokens per second"),
        better=Better.HIGHER,
        of=_speed,
        units=lambda comparison, most: (1.0, ""),
        say=lambda value: _("%(number)s tokens/s", number=decimal(value, 0)),
        column="tokens_per_second",
        comparable=lambda comparison: comparison.times_comparable,
    ),
    "forgetting": Axis(
        title=lambda comparison: _("forgetting"),
        better=Better.LOWER,
        of=lambda result: result.forgetting.change if result.forgetting else None,
        units=lambda comparison, most: (1.0, _("nats per token")),
        say=_nats,
        column="forgetting",
        comparable=lambda comparison: comparison.scores_comparable,
        zero=False,
    ),
    "energy": Axis(
        title=lambda comparison: _("energy"),
        better=Better.LOWER,
        of=lambda result: result.energy_joules,
        units=lambda comparison, most: energy_unit(most),
        say=energy,
        column="energy_joules",
        comparable=lambda comparison: comparison.times_comparable,
    ),
}
"""By their names in the address, in the order of the selects."""
