"""The axes that a trade-off may have.

To add one, add it to `AXES`: the selects, the address, the drawing, the table and the CSV take it from there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from app.domain.comparison.costs import Spread
from app.domain.comparison.pareto import Better
from app.domain.comparison.study import StudyArm, StudyComparison
from app.domain.runs.result import RunResult
from app.web.figures.units import energy_unit, memory_unit, time_unit
from app.web.format import NBSP, decimal, duration, energy, file_size, hundred, memory, short_count
from app.web.i18n import gettext as _
from app.web.text.metrics import loss_unit, title

Units = Callable[[StudyComparison, float], tuple[float, str]]
"""From the largest value to what one unit of the axis is of it, and the unit's name."""


@dataclass(frozen=True)
class Axis:
    """A number of an arm over its seeds."""

    title: Callable[[StudyComparison], str]
    """Within a sentence: `peak memory`."""
    better: Better
    of: Callable[[RunResult], float | None]
    """From a run's result; None where it was not measured."""
    units: Units
    say: Callable[[float], str]
    """A value with its unit: `150 MiB`."""
    column: str
    """In the CSV, as it was measured: `peak_bytes`."""
    comparable: Callable[[StudyComparison], bool] = lambda found: True
    """Whether the values of different arms may be held against each other."""
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
        """One pays it: less is better, and nothing costs nothing."""
        return self.better is Better.LOWER and self.zero

    def spread(self, arm: StudyArm) -> Spread | None:
        """Mean over seeds, with the smallest and the largest seed."""
        results = [run.result for run in arm.succeeded if run.result]
        values = [value for result in results if (value := self.of(result)) is not None]
        return Spread.of(values) if values else None


@dataclass(frozen=True)
class Score(Axis):
    """The metric: its whiskers are the 95 % interval of the mean."""

    def spread(self, arm: StudyArm) -> Spread | None:
        """Mean and interval over items and seeds."""
        return Spread(arm.score.mean, max(0.0, arm.score.low), min(1.0, arm.score.high)) if arm.score else None


def known(found: StudyComparison) -> list[str]:
    """The names of the axes on which an arm of this study has a value."""
    return [name for name, axis in AXES.items() if any(axis.spread(arm) for arm in found.arms)]


def _nats(value: float) -> str:
    return f"{decimal(value, 3)}{NBSP}{_('nats')}"


def _test_loss(result: RunResult) -> float | None:
    found = result.evaluation("adapted", "test")
    return found.loss if found else None


def _speed(result: RunResult) -> float | None:
    return result.tokens / result.clocks.train if result.clocks.train > 0 else None


_time = partial(
    Axis,
    better=Better.LOWER,
    units=lambda found, most: time_unit(most),
    say=duration,
    comparable=lambda f: f.times_comparable,
)

AXES: dict[str, Axis] = {
    "score": Score(
        title=lambda found: title(found.metric),
        better=Better.HIGHER,
        of=lambda result: None,
        units=lambda found, most: (0.01, "%"),
        say=lambda value: f"{hundred(value)}{NBSP}%",
        column="score",
        zero=False,
        most=100.5,
        span=6.0,
        stretches=False,
    ),
    "loss": Axis(
        title=lambda found: _("loss on the test split"),
        better=Better.LOWER,
        of=_test_loss,
        units=lambda found, most: (1.0, loss_unit(found.spec.task)),
        say=_nats,
        column="loss",
        zero=False,
    ),
    "memory": Axis(
        title=lambda found: _("peak memory"),
        better=Better.LOWER,
        of=lambda result: result.memory.peak_bytes,
        units=lambda found, most: memory_unit(most),
        say=memory,
        column="peak_bytes",
        comparable=lambda found: found.memory_comparable,
    ),
    "time": _time(title=lambda found: _("train time"), of=lambda result: result.clocks.train, column="train_seconds"),
    "wall": _time(title=lambda found: _("wall time"), of=lambda result: result.clocks.wall, column="wall_seconds"),
    "trainable": Axis(
        title=lambda found: _("trainable parameters"),
        better=Better.LOWER,
        of=lambda result: result.parameters.trainable,
        units=lambda found, most: (1.0, ""),
        say=lambda value: _("%(number)s parameters", number=short_count(round(value))),
        column="trainable_parameters",
    ),
    "file": Axis(
        title=lambda found: _("file size"),
        better=Better.LOWER,
        of=lambda result: result.artifact_bytes or None,
        units=lambda found, most: memory_unit(most),
        say=file_size,
        column="artifact_bytes",
    ),
    "speed": Axis(
        title=lambda found: _("tokens per second"),
        better=Better.HIGHER,
        of=_speed,
        units=lambda found, most: (1.0, ""),
        say=lambda value: _("%(number)s tokens/s", number=decimal(value, 0)),
        column="tokens_per_second",
        comparable=lambda found: found.times_comparable,
    ),
    "forgetting": Axis(
        title=lambda found: _("forgetting"),
        better=Better.LOWER,
        of=lambda result: result.forgetting.change if result.forgetting else None,
        units=lambda found, most: (1.0, _("nats per token")),
        say=_nats,
        column="forgetting",
        zero=False,
    ),
    "energy": Axis(
        title=lambda found: _("energy"),
        better=Better.LOWER,
        of=lambda result: result.energy_joules,
        units=lambda found, most: energy_unit(most),
        say=energy,
        column="energy_joules",
        comparable=lambda found: found.times_comparable,
    ),
}
"""By their names in the address, in the order of the selects."""
