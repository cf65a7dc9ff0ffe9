"""The loss and the memory of one run by step: curves over training with what is known of the run as a whole."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from app.domain.resources.memory_fit import RunFit
from app.domain.runs.curves.smoothing import Floats, smoothed, still_falling, usual_factor
from app.domain.runs.result import Steps
from app.domain.runs.status import RunStatus
from app.store.tables import EvaluationRow, RunRow
from app.web.figures.curves.axes import column
from app.web.figures.curves.chart import Curve, Curves, Label, chart, drawn_line, some_of, upper_end
from app.web.figures.curves.curves import smoothing_note
from app.web.figures.curves.step_rows import step_table
from app.web.figures.drawing.theme import MarkStyle
from app.web.figures.figure import Column, Figure, Table
from app.words.format import decimal, memory_unit
from app.words.format import memory as bytes_text
from app.words.i18n import gettext as _
from app.words.runs.metrics import loss_unit

ROWS = 9
"""Rows of the table on the page."""


def loss(run: RunRow, steps: Steps, validation: Sequence[EvaluationRow]) -> Figure:
    """Training loss by step, as measured and smoothed, with the validation losses."""
    losses = column("loss")(steps)
    factor = usual_factor(len(losses))
    line, result = smoothed(losses, factor), run.result
    title = _("Training loss")
    if len(line):
        trend = {True: _("still falling"), False: _("levelled off"), None: ""}[still_falling(losses)]
        title = _("Training loss %(value)s", value=decimal(float(line[-1]), 2))
        title = _("%(title)s, %(trend)s", title=title, trend=trend) if trend else title
    checks = [(float(e.step), e.loss) for e in validation if e.loss is not None]
    at, values = np.array(checks, dtype=np.float64).reshape(-1, 2).T
    unit = _("as reported") if run.reported_run else loss_unit(run.spec.task)
    return Figure(
        name="loss",
        title=title,
        label=_("Training loss by optimizer step"),
        note=" ".join(filter(None, (smoothing_note(factor), _("Markers: loss on the validation split.")))),
        data=_curves(
            run,
            steps,
            line,
            up=_("Training loss, %(unit)s", unit=unit),
            raw=losses if factor else None,
            marks=(at, values),
            labels=tuple(_label(x, y, kept=result is not None and x == result.best_step) for x, y in checks),
        ),
        draw=chart,
        table=_table(steps, "loss", _("loss"), lambda value: decimal(value, 3)),
        everything=lambda: step_table((), [((), steps)]),
        empty="" if len(steps) else _("No step has been reported yet."),
    )


def memory(run: RunRow, steps: Steps, fit: RunFit) -> Figure:
    """Memory by step, with the measured or the estimated peak."""
    held, result = column("memory_bytes")(steps), run.result
    title, limit = _("Memory"), None
    if len(held):
        title = _("Memory %(value)s", value=bytes_text(float(held[-1])))
    if result:
        limit = float(result.memory.peak_bytes), _("peak %(peak)s", peak=bytes_text(result.memory.peak_bytes))
        title = _("Memory, %(peak)s at the peak", peak=bytes_text(limit[0]))
    elif fit.peak:
        limit = fit.peak.value, _("estimated peak %(peak)s", peak=bytes_text(fit.peak.value))
        title = _("%(title)s, %(limit)s", title=title, limit=limit[1])
    size, unit = memory_unit(max([limit[0] if limit else 0.0, *held.tolist()]))
    return Figure(
        name="memory",
        title=title,
        label=_("Memory by optimizer step"),
        note=_("Above the idle process, after each step; the peak lies within a step."),
        data=_curves(
            run,
            steps,
            held / size,
            up=_("Memory, %(unit)s", unit=unit),
            limit=(limit[0] / size, limit[1]) if limit else None,
        ),
        draw=chart,
        table=_table(steps, "memory_bytes", _("memory"), bytes_text),
        everything=lambda: step_table((), [((), steps)]),
        empty="" if len(steps) else _("No step has been reported yet."),
    )


def _curves(
    run: RunRow,
    steps: Steps,
    line: Floats,
    *,
    raw: Floats | None = None,
    marks: tuple[Floats, Floats] | None = None,
    **parts: Any,
) -> Curves:
    """One curve up to the last of all steps; statistics were made on every step, here they are downsampled."""
    x, result = column("step")(steps), run.result
    last = int(x[-1]) if len(x) else None
    curve = Curve(
        style=MarkStyle("", run.family),
        mean=drawn_line(x, line),
        raw=None if raw is None else drawn_line(x, raw),
        marks=some_of(*marks) if marks else None,
    )
    return Curves(
        curves=(curve,),
        end=result.steps if result else max(run.total_steps or 0, last or 1),
        across=_("Optimizer step →"),
        top=upper_end([line, marks[1]] if marks else [line]),
        zero=True,
        now=last if run.status == RunStatus.RUNNING else None,
        **parts,
    )


def _label(x: float, y: float, *, kept: bool) -> Label:
    text = _("kept: validation %(loss)s") if kept else _("validation %(loss)s")
    return Label(x, y, text % {"loss": decimal(y, 2)}, kept)


def _table(steps: Steps, name: str, heading: str, show: Callable[[float | None], str]) -> Table:
    at = sorted({int(i) for i in np.linspace(0, len(steps) - 1, ROWS)}) if len(steps) else []
    columns = (Column("step", _("step"), str), Column(name, heading, show))
    return Table(columns, tuple((int(steps["step"][i]), float(steps[name][i])) for i in at))
