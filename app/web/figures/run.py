"""The figures of one run, while it works and afterwards."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app.domain.failures import Failure
from app.domain.methods import METHODS
from app.domain.models.weight_delta import WeightDeltas
from app.domain.resources.memory_fit import RunFit
from app.domain.runs.downsampling import lttb
from app.domain.runs.result import RunResult, Steps
from app.domain.runs.status import RunStatus
from app.domain.tasks import Task
from app.web.figures.curve_titles import still_falling
from app.web.figures.drawing import live
from app.web.figures.drawing.live import Live, Mark
from app.web.figures.drawing.theme import FAMILIES, MarkStyle
from app.web.figures.drawing.thin import Floats, smooth, window_for
from app.web.figures.figure import Column, Figure, Table
from app.web.figures.reports import EveryStep
from app.web.figures.run_costs import clocks, died, owners
from app.web.figures.updates import run_energy, run_map
from app.web.format import MIB, decimal, memory, mib
from app.web.i18n import gettext as _
from app.web.text.metrics import loss_unit

POINTS = 320
WIDTHS = (556, 356)


@dataclass(frozen=True)
class RunEvidence:
    """What the figures of a run are made of."""

    method_kind: str
    task: Task
    status: RunStatus
    total_steps: int | None
    steps: Steps
    validation: Sequence[tuple[int, float]]
    """(step, loss) on the validation split."""
    result: RunResult | None
    failure: Failure | None = None
    fit: RunFit | None = None
    """What was predicted."""
    label: str = ""
    """The method's."""
    updates: WeightDeltas | None = None
    """What it did to each matrix."""


def run_figures(run: RunEvidence) -> dict[str, Figure]:
    """Every figure by its name: loss and memory by step; memory by owner and clocks where there is a result, memory by
    owner alone where it ran out."""
    figures = [_loss(run), _memory(run)]
    if run.result:
        figures += [owners(run.result.memory, run.fit), clocks(run.result.clocks, run.fit)]
        if run.updates and run.updates.matrices:
            style = MarkStyle(_("ΔW"), METHODS[run.method_kind].family)
            figures += [run_energy(style, run.updates), run_map(run.label, style, run.updates)]
    elif run.failure and run.failure.ledger:
        figures.append(died(run.failure.ledger, run.fit))
    return {figure.name: figure for figure in figures}


def _loss(run: RunEvidence) -> Figure:
    steps, losses = _column(run.steps, "loss")
    calm = smooth(losses, window_for(len(losses)))
    marks = [
        _mark(step, value, kept=run.result is not None and step == run.result.best_step)
        for step, value in run.validation
    ]
    title = _("Training loss")
    if len(calm):
        falls = still_falling(losses)
        words = {True: _("still falling"), False: _("levelled off"), None: ""}[falls]
        value = decimal(float(calm[-1]), 2)
        title = _("Training loss %(value)s", value=value)
        title = _("%(title)s, %(trend)s", title=title, trend=words) if words else title
    return Figure(
        name="loss",
        title=title,
        label=_("Training loss by optimizer step"),
        note=_(
            "Line: running mean over %(window)s steps. Diamonds: loss on the validation split.",
            window=window_for(len(losses)),
        ),
        data=_live(
            run, steps, losses, calm, _("Training loss, %(unit)s", unit=loss_unit(run.task)), marks=tuple(marks)
        ),
        draw=live.chart,
        widths=WIDTHS,
        table=_table(run.steps, "loss", _("loss"), 3),
        everything=lambda: _every_step(run.steps),
        empty="" if len(losses) else _("No step has been reported yet."),
    )


def _mark(step: int, loss: float, *, kept: bool) -> Mark:
    text = _("kept: validation %(loss)s") if kept else _("validation %(loss)s")
    return Mark(float(step), loss, text % {"loss": decimal(loss, 2)}, kept)


def _memory(run: RunEvidence) -> Figure:
    steps, held = _column(run.steps, "memory_bytes")
    held = held / MIB
    peak = run.result.memory.peak_bytes if run.result else None
    guess = run.fit.peak.value if run.fit and run.fit.peak else None
    title, limit = _("Memory"), None
    if peak is not None:
        title = _("Memory, %(peak)s at the peak", peak=memory(peak))
        limit = (peak / MIB, _("peak %(peak)s", peak=mib(peak)))
    elif len(held):
        title = _("Memory %(value)s", value=memory(float(held[-1]) * MIB))
    if guess is not None and peak is None:
        title = _("%(title)s, predicted peak %(peak)s", title=title, peak=memory(guess))
        limit = (guess / MIB, _("predicted peak %(peak)s", peak=mib(guess)))
    return Figure(
        name="memory",
        title=title,
        label=_("Memory by optimizer step"),
        note=_("MiB above the idle process, after each step; the peak lies within a step."),
        data=_live(run, steps, held, held, _("Memory, MiB"), limit=limit),
        draw=live.chart,
        widths=WIDTHS,
        table=_table(run.steps, "memory_bytes", _("memory, bytes"), 0),
        everything=lambda: _every_step(run.steps),
        empty="" if len(held) else _("No step has been reported yet."),
    )


def _column(steps: Steps, name: str) -> tuple[Floats, Floats]:
    return steps["step"].astype(float), steps[name].astype(float)


def _live(
    run: RunEvidence,
    steps: Floats,
    raw: Floats,
    calm: Floats,
    title: str,
    *,
    marks: tuple[Mark, ...] = (),
    limit: tuple[float, str] | None = None,
) -> Live:
    """Statistics were made on every step; here it is thinned."""
    seen = int(steps[-1]) if len(steps) else None
    return Live(
        raw=_thin(steps, raw),
        smooth=_thin(steps, calm),
        colour=FAMILIES[METHODS[run.method_kind].family].colour,
        title=title,
        steps=run.result.steps if run.result else max(run.total_steps or 0, seen or 1),
        seen=seen if run.status is RunStatus.RUNNING else None,
        marks=marks,
        limit=limit,
    )


def _thin(x: Floats, y: Floats) -> tuple[tuple[float, float], ...]:
    at = lttb(x, y, POINTS)
    return tuple((float(a), float(b)) for a, b in zip(x[at], y[at], strict=True) if np.isfinite(b))


def _table(steps: Steps, name: str, heading: str, digits: int) -> Table:
    """Some steps, evenly apart."""
    at = sorted({int(i) for i in np.linspace(0, len(steps) - 1, 9)}) if len(steps) else []
    columns = (Column("step", _("step"), str), Column(name, heading, lambda v: decimal(v, digits)))
    return Table(columns, tuple((int(steps["step"][i]), float(steps[name][i])) for i in at))


def _every_step(steps: Steps) -> Table:
    names = steps.dtype.names or ()
    return Table(tuple(Column(name, name) for name in names), EveryStep((((), steps),)))
