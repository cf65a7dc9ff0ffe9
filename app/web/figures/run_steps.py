"""The loss and the memory of one run by step: what happened is drawn, what is left of the run is blank, limits are
dashed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from app.domain.methods import METHODS
from app.domain.resources.memory_fit import RunFit
from app.domain.runs.result import RunResult, Steps
from app.domain.runs.smoothing import Floats, smoothed, still_falling, usual_factor
from app.domain.runs.status import RunStatus
from app.domain.tasks import Task
from app.web.figures.curve_chart import Drawing, drawn_line
from app.web.figures.drawing import grammar as alt
from app.web.figures.drawing.theme import (
    FAMILIES,
    INK,
    MUTED,
    STRONG,
    WIDE_FROM,
    at_x,
    at_y,
    frame,
    halo,
    number_axis,
    side,
    values,
)
from app.web.figures.figure import Column, Figure, Table
from app.web.figures.step_rows import StepRows
from app.web.format import MIB, count, decimal, mib
from app.web.format import memory as bytes_text
from app.web.i18n import gettext as _
from app.web.text.metrics import loss_unit

ROWS = 9
"""Of the table on the page."""
NAMES_APART = 0.3, 0.5
"""Shares of the axis, in a wide and in a narrow drawing, that two named evaluations lie apart at least."""
OUTLIER = 1.4
"""A measured value is cut off above so many times the largest of the line."""


@dataclass(frozen=True)
class RunCurves:
    """What a run has reported so far, and what it is compared with."""

    method_kind: str
    task: Task
    status: RunStatus
    total_steps: int | None
    steps: Steps
    validation: Sequence[tuple[int, float]]
    """(step, loss) on the validation split."""
    result: RunResult | None
    fit: RunFit | None = None
    """What was estimated."""


@dataclass(frozen=True)
class Mark:
    """A single value with a name: a validation loss."""

    step: float
    value: float
    text: str
    kept: bool = False
    """Of the checkpoint that was kept: it is named before the others."""


@dataclass(frozen=True)
class SoFar:
    """A run's curve so far."""

    raw: Drawing
    line: Drawing
    colour: str
    title: str
    steps: int
    """Of the whole run."""
    now: int | None
    """The last step so far; None when the run has ended."""
    marks: tuple[Mark, ...] = ()
    limit: tuple[float, str] | None = None
    """A value that matters, and its name."""


def loss(run: RunCurves) -> Figure:
    """Training loss by step, as measured and smoothed, with the validation losses."""
    losses = run.steps["loss"].astype(np.float64)
    factor = usual_factor(len(losses))
    line = smoothed(losses, factor)
    best = run.result.best_step if run.result else None
    title = _("Training loss")
    if len(line):
        trend = {True: _("still falling"), False: _("levelled off"), None: ""}[still_falling(losses)]
        title = _("Training loss %(value)s", value=decimal(float(line[-1]), 2))
        title = _("%(title)s, %(trend)s", title=title, trend=trend) if trend else title
    note = _("Diamonds: loss on the validation split.")
    if factor:
        over = count(round(1 / (1 - factor)))
        note = _("Line: moving average over about %(steps)s steps; pale: as measured.", steps=over) + " " + note
    return _figure(
        run,
        "loss",
        title=title,
        label=_("Training loss by optimizer step"),
        note=note,
        data=_so_far(
            run,
            losses,
            line,
            _("Training loss, %(unit)s", unit=loss_unit(run.task)),
            marks=tuple(_mark(step, value, kept=step == best) for step, value in run.validation),
        ),
        table=_table(run.steps, "loss", _("loss"), 3),
    )


def memory(run: RunCurves) -> Figure:
    """Memory by step, with the measured or the estimated peak."""
    held = run.steps["memory_bytes"].astype(np.float64) / MIB
    peak = run.result.memory.peak_bytes if run.result else None
    estimated = run.fit.peak.value if run.fit and run.fit.peak else None
    title, limit = _("Memory"), None
    if peak is not None:
        title = _("Memory, %(peak)s at the peak", peak=bytes_text(peak))
        limit = (peak / MIB, _("peak %(peak)s", peak=mib(peak)))
    elif len(held):
        title = _("Memory %(value)s", value=bytes_text(float(held[-1]) * MIB))
    if estimated is not None and peak is None:
        title = _("%(title)s, estimated peak %(peak)s", title=title, peak=bytes_text(estimated))
        limit = (estimated / MIB, _("estimated peak %(peak)s", peak=mib(estimated)))
    return _figure(
        run,
        "memory",
        title=title,
        label=_("Memory by optimizer step"),
        note=_("MiB above the idle process, after each step; the peak lies within a step."),
        data=_so_far(run, held, held, _("Memory, MiB"), limit=limit),
        table=_table(run.steps, "memory_bytes", _("memory, bytes"), 0),
    )


def chart(data: SoFar, width: int) -> alt.LayerChart:
    """Measured values (thin), their average (line), where the run stands, and what is marked."""
    steps = max(data.steps, 1)
    x = alt.X("step:Q", scale=alt.Scale(domain=[0, steps], nice=False), axis=number_axis(_("Optimizer step →")))
    y_scale = alt.Scale(domain=[0, _highest(data)], nice=False, clamp=True)
    y = alt.Y("value:Q", scale=y_scale, axis=number_axis())
    where = {"x": alt.X("step:Q"), "y": alt.Y("value:Q")}
    diamonds = values([{"step": m.step, "value": m.value} for m in data.marks])
    return frame(
        _line(data.raw, strokeWidth=1, opacity=0.4, color=data.colour).encode(x=x, y=y),
        _line(data.line, strokeWidth=2.2, color=data.colour).encode(x=x, y=y),
        *_now(data),
        *_limit(data),
        diamonds.mark_point(filled=True, size=70, opacity=1, color=INK, shape="diamond").encode(**where),
        *(layer for mark in _named(data, NAMES_APART[width <= WIDE_FROM]) for layer in _name(mark, data)),
        width=width,
        height=200 if width > WIDE_FROM else 180,
        up=data.title,
    )


def _line(points: Drawing, **options: Any) -> alt.Chart:
    line: alt.Chart = values([{"step": x, "value": y} for x, y in points.tolist()]).mark_line(**options)
    return line


def _highest(data: SoFar) -> float:
    """Everything but outliers of what was measured, and room for a label."""
    calm = [*data.line[:, 1].tolist(), *(m.value for m in data.marks), *([data.limit[0]] if data.limit else [])]
    most: float = max(calm, default=1.0) or 1.0
    raw: list[float] = data.raw[:, 1].tolist()
    return 1.14 * max([most, *(value for value in raw if value <= OUTLIER * most)])


def _now(data: SoFar) -> list[alt.Chart]:
    if data.now is None:
        return []
    row = values([{"step": data.now, "text": _("now, step %(step)s", step=data.now)}])
    label = row.mark_text(baseline="top", color=MUTED, **side(data.now / max(data.steps, 1)))
    return [
        row.mark_rule(color=STRONG).encode(x=alt.X("step:Q")),
        label.encode(x=alt.X("step:Q"), y=at_y(0), text=alt.Text("text:N")),
    ]


def _limit(data: SoFar) -> list[alt.Chart]:
    if data.limit is None:
        return []
    row = values([{"value": data.limit[0], "text": data.limit[1]}])
    label = row.mark_text(align="left", baseline="bottom", dx=4, dy=-4, color=MUTED)
    return [
        row.mark_rule(strokeDash=[4, 4], color=MUTED).encode(y=alt.Y("value:Q")),
        label.encode(x=at_x(0), y=alt.Y("value:Q"), text=alt.Text("text:N")),
    ]


def _named(data: SoFar, apart: float) -> list[Mark]:
    """The evaluations that have a name beside them: the kept one, and others that are far enough from it."""
    named: list[Mark] = []
    for mark in sorted(data.marks, key=lambda mark: not mark.kept):
        if all(abs(mark.step - other.step) >= apart * data.steps for other in named):
            named.append(mark)
    return named


def _name(mark: Mark, data: SoFar) -> list[alt.Chart]:
    """Above the curve or below it, wherever the mark lies."""
    line = data.line
    below = bool(len(line)) and mark.value < line[np.abs(line[:, 0] - mark.step).argmin(), 1]
    row = values([{"step": mark.step, "value": mark.value, "text": mark.text}])
    where = {"x": alt.X("step:Q"), "y": alt.Y("value:Q"), "text": alt.Text("text:N")}
    return halo(row, where, dy=11 if below else -9, color=INK, **side(mark.step / max(data.steps, 1)))


def _figure(run: RunCurves, name: str, *, title: str, label: str, note: str, data: SoFar, table: Table) -> Figure:
    names = run.steps.dtype.names or ()
    return Figure(
        name=name,
        title=title,
        label=label,
        note=note,
        data=data,
        draw=chart,
        table=table,
        everything=lambda: Table.raw(names, StepRows((((), run.steps),))),
        empty="" if len(run.steps) else _("No step has been reported yet."),
    )


def _mark(step: int, value: float, *, kept: bool) -> Mark:
    text = _("kept: validation %(loss)s") if kept else _("validation %(loss)s")
    return Mark(float(step), value, text % {"loss": decimal(value, 2)}, kept)


def _so_far(
    run: RunCurves,
    raw: Floats,
    line: Floats,
    title: str,
    *,
    marks: tuple[Mark, ...] = (),
    limit: tuple[float, str] | None = None,
) -> SoFar:
    """Statistics were made on every step; here they are downsampled."""
    steps = run.steps["step"].astype(np.float64)
    last = int(steps[-1]) if len(steps) else None
    return SoFar(
        raw=drawn_line(steps, raw),
        line=drawn_line(steps, line),
        colour=FAMILIES[METHODS[run.method_kind].family].colour,
        title=title,
        steps=run.result.steps if run.result else max(run.total_steps or 0, last or 1),
        now=last if run.status is RunStatus.RUNNING else None,
        marks=marks,
        limit=limit,
    )


def _table(steps: Steps, name: str, heading: str, digits: int) -> Table:
    """Some steps, evenly apart."""
    at = sorted({int(i) for i in np.linspace(0, len(steps) - 1, ROWS)}) if len(steps) else []
    columns = (Column("step", _("step"), str), Column(name, heading, lambda v: decimal(v, digits)))
    return Table(columns, tuple((int(steps["step"][i]), float(steps[name][i])) for i in at))
