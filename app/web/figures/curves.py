"""What training and validation reported over steps, epochs, tokens or time: a line an arm."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from app.domain.comparison.study import StudyComparison
from app.domain.runs.result import STEP_DTYPE, Steps
from app.domain.runs.smoothing import Band, Floats
from app.domain.tasks import generates
from app.web.figures.curve_titles import curve_title
from app.web.figures.drawing import curves as drawing
from app.web.figures.drawing.curves import Curve, Curves, band_of, line_of, pairs, some_of, top_of
from app.web.figures.figure import Column, Figure, Table
from app.web.figures.quantities import Quantity
from app.web.figures.reports import Checkpoint, EveryStep, Line, Reports
from app.web.figures.verdict import mark_style
from app.web.figures.view import ViewParams
from app.web.format import capitalized, count, join_names
from app.web.i18n import gettext as _
from app.web.i18n import ngettext
from app.web.text.failures import failure_label
from app.web.text.metrics import title
from app.web.text.verdict import seed_range

WIDTHS = (556, 356)
ROWS = 5
"""Places of the table on the page; the CSV has every step."""


def curves(
    found: StudyComparison,
    steps: Mapping[int, Steps],
    checkpoints: Mapping[int, Sequence[Checkpoint]],
    view: ViewParams,
) -> Figure:
    """As the address asks."""
    reports = Reports(found, steps, checkpoints, view)
    lines = [line for arm in found.arms if len((line := reports.line(arm)).raw.x) or line.failed]
    quantity, words = reports.quantity, {"what": capitalized(reports.quantity.title(found)), "by": reports.place.name()}
    return Figure(
        name="curves",
        title=curve_title(found, view.curve, _means(lines), words),
        label=_("%(what)s by %(by)s, a line an arm", **words),
        note=_note(reports, lines) if lines else "",
        data=_data(reports, lines),
        draw=drawing.chart,
        widths=WIDTHS,
        table=_table(reports, lines),
        everything=lambda: _every_step(reports) if quantity.of else _every_evaluation(reports),
        empty="" if lines else _nothing(quantity),
    )


def _means(lines: Sequence[Line]) -> dict[str, Floats]:
    """Of the arms that got through; of all, if none did."""
    sound = [line for line in lines if line.sound] or lines
    return {line.arm.title: line.raw.mean for line in sound}


def _nothing(quantity: Quantity) -> str:
    return _("No step has been reported yet.") if quantity.of else _("No run has been validated yet.")


def _data(reports: Reports, lines: Sequence[Line]) -> Curves:
    """In the units of the axes, thinned."""
    quantity = reports.quantity
    bands = [line.calm for line in lines if len(line.calm.x)]
    top = _top(lines)
    size, unit = quantity.unit(reports.found, top)
    ends = [float(b.x[-1]) for b in bands] + [float(x[-1]) for line in lines for _run, x, _y in line.failed]
    if reports.view.by == "step":
        ends += [float(run.result.steps) for run in reports.found.runs if run.result]
    far, across = reports.place.title(max(ends, default=1.0))
    up = capitalized(quantity.title(reports.found))
    if quantity.of is None and unit == "%":
        up = f"↑ {up}"
    return Curves(
        curves=tuple(_curve(reports, line, far, size) for line in lines),
        end=max(ends, default=1.0) / far or 1.0,
        across=across,
        up=_("%(what)s, %(unit)s", what=up, unit=unit) if unit else up,
        top=top / size,
        least=0.0 if quantity.zero else None,
        most=100.0 if unit == "%" else None,
        noisy=quantity.noisy and not reports.factor,
    )


def _top(lines: Sequence[Line]) -> float:
    """Where lines are cut off. A run that failed is followed as far as the others go, if there are others."""
    sound = [line for line in lines if line.sound] or lines
    return top_of([line.calm.mean for line in sound] + [line.marks.mean for line in sound if line.marks])


def _curve(reports: Reports, line: Line, far: float, size: float) -> Curve:
    calm, raw = _scaled(line.calm, far, size), _scaled(line.raw, far, size)
    every = reports.quantity.of is None
    marks = pairs(calm.x, calm.mean) if every else ()
    if line.marks is not None:
        validated = _scaled(line.marks, far, size)
        marks = pairs(validated.x, validated.mean)
    return Curve(
        style=mark_style(line.arm),
        mean=line_of(calm.x, calm.mean),
        band=band_of(calm) if line.seeds > 1 else (),
        raw=line_of(raw.x, raw.mean) if reports.factor else (),
        marks=some_of(marks),
        failed=tuple(line_of(x / far, y / size) for _run, x, y in line.failed),
    )


def _scaled(found: Band, far: float, size: float) -> Band:
    return replace(found, x=found.x / far, mean=found.mean / size, low=found.low / size, high=found.high / size)


def _note(reports: Reports, lines: Sequence[Line]) -> str:
    counts = [line.seeds for line in lines if line.seeds]
    parts = []
    if counts:
        parts.append(
            _("Line: mean of %(seeds)s.", seeds=seed_range(counts)) if max(counts) > 1 else _("Line: one seed.")
        )
    if counts and max(counts) > 1:
        parts.append(_("Band: smallest to largest seed."))
    if reports.factor:
        parts.append(_smoothed(reports.factor))
    parts += [_fewer(reports, line) for line in lines if line.calm.fewer_from is not None]
    parts += [_validated(reports, lines), _failures(lines)]
    if not reports.place.comparable(reports.found):
        parts.append(_("Times were not measured under the same conditions, so places across do not compare."))
    if reports.view.curve == "loss" and reports.view.by == "step":
        parts.append(_("Every arm sees the same rows in the same order."))
    return " ".join(part for part in parts if part)


def _smoothed(factor: float) -> str:
    return _(
        "Smoothed by %(factor)s, over about the last %(steps)s steps, debiased at the start. Pale: as measured.",
        factor=f"{factor:g}",
        steps=count(round(1 / (1 - factor))),
    )


def _fewer(reports: Reports, line: Line) -> str:
    """Said where seeds of an arm ended before the others."""
    return _(
        "%(arm)s: from %(at)s on %(left)s of %(seeds)s.",
        arm=line.arm.title,
        left=int(line.calm.seeds[-1]),
        seeds=seed_range([line.seeds]),
        at=reports.place.say(line.calm.fewer_from or 0.0),
    )


def _validated(reports: Reports, lines: Sequence[Line]) -> str:
    """What the markers are."""
    items = next((c.n for seen in reports.checkpoints.values() for c in seen), None)
    if items is None:
        return ""
    if reports.quantity.of is None:
        text = _("On %(items)s validation items. The best checkpoint of each run was kept.", items=count(items))
        if generates(reports.found.metric):
            metric = title(reports.found.metric)
            text += " " + _("Text is generated for the test only, so there is no %(metric)s here.", metric=metric)
        return text
    marked = any(line.marks is not None and len(line.marks.x) for line in lines)
    return _("Markers: loss on %(items)s validation items.", items=count(items)) if marked else ""


def _failures(lines: Sequence[Line]) -> str:
    """Who failed where a cross stands."""
    ends = []
    for line in lines:
        reasons = dict.fromkeys(failure_label(run.failure) for run, _x, _y in line.failed if run.failure)
        if reasons:
            many = ngettext("%(num)s run", "%(num)s runs", len(line.failed))
            ends.append(_("%(arm)s: %(why)s, %(runs)s", arm=line.arm.title, why=join_names([*reasons]), runs=many))
    return _("Crosses: where runs failed (%(runs)s).", runs="; ".join(ends)) if ends else ""


def _table(reports: Reports, lines: Sequence[Line]) -> Table:
    """Each arm's mean at a few places, and how many seeds it is of at the last."""
    size, _unit = reports.quantity.unit(reports.found, _top(lines))
    end = max((float(line.raw.x[-1]) for line in lines if len(line.raw.x)), default=0.0)
    start = min((float(line.raw.x[0]) for line in lines if len(line.raw.x)), default=0.0)
    places = np.linspace(start, end, ROWS) if end > start else np.array([end])
    columns = [Column("arm", _("arm")), Column("seeds", _("seeds"), count)]
    for at in places:
        columns.append(Column(f"at_{at:.6g}", reports.place.say(float(at)), partial(_shown, reports.quantity, size)))
    rows = [(line.arm.title, line.seeds, *(_at(line.calm, at) for at in places)) for line in lines]
    return Table(tuple(columns), tuple(rows))


def _shown(quantity: Quantity, size: float, value: float | None) -> str:
    return quantity.show(None if value is None else value / size)


def _at(found: Band, place: float) -> float | None:
    """The mean next to a place, within the line."""
    if not len(found.x) or place > found.x[-1]:
        return None
    value = float(found.mean[np.abs(found.x - place).argmin()])
    return value if np.isfinite(value) else None


def _every_step(reports: Reports) -> Table:
    """Every step of every run, unsmoothed: what the CSV holds."""
    names = STEP_DTYPE.names or ()
    parts = [((run.arm, run.seed, run.run_id), reports.steps.get(run.run_id)) for run in reports.found.runs]
    rows = EveryStep(tuple((of, steps) for of, steps in parts if steps is not None))
    return Table(tuple(Column(name, name) for name in ("arm", "seed", "run", *names)), rows)


def _every_evaluation(reports: Reports) -> Table:
    """Every evaluation of every run on the validation split."""
    names = ("arm", "seed", "run", "step", "epoch", "score", "loss")
    rows = (
        (run.arm, run.seed, run.run_id, c.step, c.epoch, c.score, c.loss)
        for run in reports.found.runs
        for c in reports.checkpoints.get(run.run_id, ())
    )
    return Table(tuple(Column(name, name) for name in names), tuple(rows))
