"""The axes of the curves over training: quantities upwards, progress across.

To add one, add it to `QUANTITIES` or `X_AXES`: the selects, the address, the drawing and the table take it from there.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from app.domain.comparison.study import StudyComparison
from app.domain.runs.curves.smoothing import Floats
from app.domain.runs.result import Steps
from app.domain.tasks import generates
from app.web.figures.drawing.axes import time_unit
from app.words.format import count, decimal, duration, memory_unit, rate, short_count
from app.words.i18n import gettext as _
from app.words.runs.metrics import loss_unit, title


@dataclass(frozen=True)
class Quantity:
    """A number that training reports with each step, or validation from time to time."""

    title: Callable[[StudyComparison], str]
    """Within a sentence: `training loss`."""
    unit: Callable[[StudyComparison, float], tuple[float, str]]
    """From the largest value: what one unit of the axis is of it, and its name."""
    of: Callable[[Steps], Floats] | None
    """From a run's steps; None for what validation measures."""
    show: Callable[[float | None], str]
    """A value in the axis's unit, for the table."""
    zero: bool = True
    """The scale begins at zero."""
    noisy: bool = False
    """It jumps from batch to batch, so its line is thinner unless it is smoothed."""


@dataclass(frozen=True)
class XAxis:
    name: Callable[[], str]
    """In the select, and within a sentence."""
    title: Callable[[float], tuple[float, str]]
    """From the largest value: what one unit is, and the axis's title."""
    say: Callable[[float], str]
    """One value: `step 120`, `19 s`."""
    of: Callable[[Steps], Floats]
    comparable: Callable[[StudyComparison], bool] = lambda study: True


def column(name: str) -> Callable[[Steps], Floats]:
    """A field of `STEP_DTYPE`."""
    return lambda steps: steps[name].astype(np.float64)


def _validation(study: StudyComparison) -> str:
    name = _("loss") if generates(study.metric) else title(study.metric)
    return _("validation %(measure)s", measure=name)


def _validation_unit(study: StudyComparison, _most: float) -> tuple[float, str]:
    return (1.0, loss_unit(study.spec.task)) if generates(study.metric) else (0.01, "%")


def _seconds(most: float) -> tuple[float, str]:
    size, unit = time_unit(most)
    return size, _("Time in training, %(unit)s →", unit=unit)


QUANTITIES: dict[str, Quantity] = {
    "loss": Quantity(
        title=lambda study: _("training loss"),
        unit=lambda study, most: (1.0, loss_unit(study.spec.task)),
        of=column("loss"),
        show=lambda value: decimal(value, 3),
        noisy=True,
    ),
    "validation": Quantity(
        title=_validation, unit=_validation_unit, of=None, show=lambda value: decimal(value, 2), zero=False
    ),
    "gradient": Quantity(
        title=lambda study: _("gradient norm"),
        unit=lambda study, most: (1.0, ""),
        of=column("grad_norm"),
        show=lambda value: decimal(value, 3),
        noisy=True,
    ),
    "rate": Quantity(
        title=lambda study: _("learning rate"),
        unit=lambda study, most: (1.0, ""),
        of=column("learning_rate"),
        show=rate,
    ),
    "memory": Quantity(
        title=lambda study: _("memory after each step"),
        unit=lambda study, most: memory_unit(most),
        of=column("memory_bytes"),
        show=lambda value: decimal(value, 1),
    ),
}
"""By their names in the address, in the order of the select."""

X_AXES: dict[str, XAxis] = {
    "step": XAxis(
        name=lambda: _("step"),
        title=lambda most: (1.0, _("Optimizer step →")),
        say=lambda at: _("step %(step)s", step=count(round(at))),
        of=column("step"),
    ),
    "epoch": XAxis(
        name=lambda: _("epoch"),
        title=lambda most: (1.0, _("Epoch →")),
        say=lambda at: _("epoch %(epoch)s", epoch=decimal(at, 2)),
        of=column("epoch"),
    ),
    "tokens": XAxis(
        name=lambda: _("tokens"),
        title=lambda most: (1.0, _("Tokens trained on →")),
        say=lambda at: _("%(tokens)s tokens", tokens=short_count(round(at))),
        of=column("tokens"),
    ),
    "time": XAxis(
        name=lambda: _("time in training"),
        title=_seconds,
        say=duration,
        of=column("seconds"),
        comparable=lambda study: study.times_comparable,
    ),
}
