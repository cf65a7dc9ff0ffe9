"""The figures of one run, while it works and afterwards."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app.domain.methods import METHODS
from app.domain.metrics import Clocks, RunResult, Steps
from app.domain.runs import RunStatus
from app.domain.tasks import Task
from app.domain.thinning import lttb
from app.web.charts import live, stacks
from app.web.charts.live import Live, Mark
from app.web.charts.stacks import Stacks
from app.web.charts.style import FAMILIES
from app.web.charts.thin import Floats, smooth, window_for
from app.web.figures.costs import OWNERS, owner_bar, owner_key, owners, phase_bar, phase_key, phases
from app.web.figures.curves import still_falling
from app.web.figures.figure import Cell, Column, Figure, Table
from app.web.i18n import gettext as _
from app.web.numbers import MIB, decimal, duration, memory, mib, share
from app.web.words.metrics import loss_unit

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


def run_figures(run: RunEvidence) -> dict[str, Figure]:
    """Every figure by its name: loss and memory by step; memory by owner and clocks where there is a result."""
    figures = [_loss(run), _memory(run), *([_owners(run.result), _clocks(run.result)] if run.result else [])]
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
        falls = still_falling(calm)
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
    title = _("Memory")
    if peak is not None:
        title = _("Memory, %(peak)s at the peak", peak=memory(peak))
    elif len(held):
        title = _("Memory %(value)s", value=memory(float(held[-1]) * MIB))
    limit = (peak / MIB, _("peak %(peak)s", peak=mib(peak))) if peak is not None else None
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


def _owners(result: RunResult) -> Figure:
    found = result.memory
    sizes = owners(found)
    names = (_(name) for _css, name, _colour in OWNERS)
    rows: tuple[tuple[Cell, ...], ...] = (*zip(names, sizes, strict=True), (_("measured peak"), found.peak_bytes))
    return Figure(
        name="owners",
        title=_("%(peak)s at the peak", peak=memory(found.peak_bytes)),
        label=_("Peak memory by owner"),
        note=_(
            "Weights, gradients and optimizer state are computed; activations and the rest are what they leave of the "
            "measured peak."
        ),
        data=Stacks(
            (owner_bar(_("measured"), sizes, found.peak_bytes),),
            _("MiB above the idle process, at the peak →"),
        ),
        draw=stacks.chart,
        widths=WIDTHS,
        table=Table((Column("owner", _("owner")), Column("bytes", _("MiB"), lambda v: mib(v, 1))), rows),
        key=owner_key(),
    )


def _clocks(result: RunResult) -> Figure:
    clocks = result.clocks
    seconds = {name: float(getattr(clocks, name)) for name in Clocks.model_fields}
    rows = tuple((name, value, share(value, clocks.wall)) for name, value in seconds.items())
    return Figure(
        name="clocks",
        title=_("%(wall)s, of which %(train)s training", wall=duration(clocks.wall), train=duration(clocks.train)),
        label=_("Seconds by phase"),
        note=_(
            "Palest: set-up (start, load, tokenize, untouched model, cache), making batches, and evaluate, save, audit."
        ),
        data=Stacks((phase_bar(_("attempt"), phases(seconds), clocks.wall),), _("seconds, from claim to result →")),
        draw=stacks.chart,
        widths=WIDTHS,
        table=Table(
            (Column("clock", _("clock")), Column("seconds", _("s"), decimal), Column("share", _("share"))), rows
        ),
        key=phase_key(),
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
    return Table(tuple(Column(name, name) for name in names), tuple(tuple(row.tolist()) for row in steps))
