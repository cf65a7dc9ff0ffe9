"""What training and validation reported over steps, epochs, tokens or time: a line an arm.

Each line is the mean over seeds, on full data; only what is drawn is downsampled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from app.domain.comparison.model import RunOutcome
from app.domain.comparison.study import StudyArm, StudyComparison
from app.domain.runs.curves.smoothing import Band, Floats, seed_band, smoothed
from app.domain.runs.result import Steps
from app.domain.runs.status import RunStatus
from app.domain.tasks import generates
from app.store.tables import EvaluationRow
from app.web.figures.curves.axes import QUANTITIES, X_AXES, Quantity, XAxis
from app.web.figures.curves.chart import Curve, Curves, chart, drawn_line, some_of, upper_end
from app.web.figures.curves.step_rows import step_table
from app.web.figures.curves.takeaways import takeaway
from app.web.figures.drawing.reference_rows import lines_note, references_near
from app.web.figures.drawing.references import Reference
from app.web.figures.drawing.theme import MarkStyle
from app.web.figures.figure import Column, Figure, Table
from app.web.figures.studies.view import ViewParams
from app.words.format import capitalized, count, general, join_names
from app.words.i18n import gettext as _
from app.words.i18n import ngettext
from app.words.runs.failures import failure_label
from app.words.runs.metrics import title
from app.words.verdict.verdict import seed_range

ROWS = 5
"""Columns of the table on the page; the CSV has every step."""


@dataclass(frozen=True)
class Reports:
    """What the runs of a study reported, and the view that is drawn."""

    study: StudyComparison
    steps: Mapping[int, Steps]
    """By run."""
    validation: Mapping[int, Sequence[EvaluationRow]]
    """Evaluations on the validation split, by run."""
    view: ViewParams

    @property
    def quantity(self) -> Quantity:
        return QUANTITIES[self.view.curve]

    @property
    def x(self) -> XAxis:
        return X_AXES[self.view.by]

    @property
    def factor(self) -> float:
        """Smoothing factor; validation is not smoothed."""
        return self.view.smooth if self.quantity.of else 0.0

    def seed(self, run: RunOutcome) -> tuple[Floats, Floats]:
        """A run's x and values, as they were reported."""
        if self.quantity.of is None:
            return self.evaluations(run, by_loss=generates(self.study.metric))
        steps = self.steps.get(run.run_id)
        if steps is None or not len(steps) or (run.shared and self.view.by == "time"):
            return np.zeros(0), np.zeros(0)
        return self.x.of(steps), self.quantity.of(steps)

    def evaluations(self, run: RunOutcome, *, by_loss: bool) -> tuple[Floats, Floats]:
        """Where a run was validated, and its loss or score there."""
        every = ((float(e.step), e.loss if by_loss else e.score) for e in self.validation.get(run.run_id, ()))
        at, values = np.array([pair for pair in every if pair[1] is not None], dtype=np.float64).reshape(-1, 2).T
        steps = self.steps.get(run.run_id)
        if self.view.by != "step" and len(at):
            if steps is None or not len(steps) or (run.shared and self.view.by == "time"):
                return np.zeros(0), np.zeros(0)
            at = np.interp(at, steps["step"].astype(np.float64), self.x.of(steps))
        return at, values

    def line(self, arm: StudyArm) -> Line:
        """An arm's seeds on one grid: those that succeeded; until there are any, those that run; failing these, those
        that failed."""
        failed = [(run, self.seed(run)) for run in _in(arm, RunStatus.FAILED)]
        for runs in (arm.succeeded, _in(arm, RunStatus.RUNNING), _in(arm, RunStatus.FAILED)):
            if drawn := [seed for run in runs if len((seed := self.seed(run))[0])]:
                break
        return Line(
            arm=arm,
            seeds=len(drawn),
            raw=seed_band(drawn),
            calm=seed_band([(x, smoothed(values, self.factor)) for x, values in drawn]),
            failed=tuple((run, *seed) for run, seed in failed if np.isfinite(seed[1]).any()),
            marks=self._marks(arm),
        )

    def _marks(self, arm: StudyArm) -> Band | None:
        """The mean validation loss over the seeds, beside a training loss; None beside anything else."""
        if self.view.curve != "loss":
            return None
        return seed_band([self.evaluations(run, by_loss=True) for run in arm.succeeded or _in(arm, RunStatus.RUNNING)])


@dataclass(frozen=True)
class Line:
    """An arm, on full data."""

    arm: StudyArm
    seeds: int
    raw: Band
    calm: Band
    """Smoothed, where the view asks for it."""
    failed: tuple[tuple[RunOutcome, Floats, Floats], ...]
    marks: Band | None

    @property
    def sound(self) -> bool:
        """One of its runs succeeded or is running."""
        return any(run.status in (RunStatus.SUCCEEDED, RunStatus.RUNNING) for run in self.arm.runs)


def curves(
    study: StudyComparison,
    steps: Mapping[int, Steps],
    validation: Mapping[int, Sequence[EvaluationRow]],
    view: ViewParams,
) -> Figure:
    """The quantity and the x axis that the view names."""
    reports = Reports(study, steps, validation, view)
    lines = [line for arm in study.arms if len((line := reports.line(arm)).raw.x) or line.failed]
    sound = [line for line in lines if line.sound] or lines
    words = {"what": capitalized(reports.quantity.title(study)), "by": reports.x.name()}
    by_step = reports.quantity.of is not None
    nothing = _("No step has been reported yet.") if by_step else _("No run has been validated yet.")
    return Figure(
        name="curves",
        title=takeaway(study, view.curve, {line.arm.title: line.raw.mean for line in sound}, words),
        label=_("%(what)s by %(by)s, one line per arm", **words),
        note=_note(reports, lines) if lines else "",
        data=_data(reports, lines, _top(sound)),
        draw=chart,
        table=_table(reports, lines, _top(sound)),
        everything=lambda: _every_step(reports) if by_step else _every_evaluation(reports),
        empty="" if lines else nothing,
    )


def _in(arm: StudyArm, status: RunStatus) -> tuple[RunOutcome, ...]:
    return tuple(run for run in arm.runs if run.status is status)


def _top(sound: Sequence[Line]) -> float:
    """Where lines are cut off: a run that failed is followed as far as the others go."""
    return upper_end([line.calm.mean for line in sound] + [line.marks.mean for line in sound if line.marks])


def _data(reports: Reports, lines: Sequence[Line], top: float) -> Curves:
    """In the units of the axes, downsampled."""
    quantity = reports.quantity
    size, unit = quantity.unit(reports.study, top)
    ends = [float(line.calm.x[-1]) for line in lines if len(line.calm.x)]
    ends += [float(x[-1]) for line in lines for _run, x, _y in line.failed]
    if reports.view.by == "step":
        ends += [float(run.result.steps) for run in reports.study.runs if run.result]
    far, across = reports.x.title(max(ends, default=1.0))
    up = capitalized(quantity.title(reports.study))
    up = f"↑ {up}" if quantity.of is None and unit == "%" else up
    return Curves(
        curves=tuple(_curve(reports, line, far, size) for line in lines),
        end=max(ends, default=1.0) / far or 1.0,
        across=across,
        up=_("%(what)s, %(unit)s", what=up, unit=unit) if unit else up,
        top=top / size,
        zero=quantity.zero,
        noisy=quantity.noisy and not reports.factor,
        lines=_lines(reports, lines),
    )


def _lines(reports: Reports, lines: Sequence[Line]) -> tuple[Reference, ...]:
    """Baselines, beside the metric on validation: it has the same unit."""
    scores = reports.quantity.of is None and not generates(reports.study.metric)
    return references_near(reports.study, [line.raw.mean for line in lines]) if scores else ()


def _curve(reports: Reports, line: Line, far: float, size: float) -> Curve:
    calm, raw = _scaled(line.calm, far, size), _scaled(line.raw, far, size)
    marks = calm if reports.quantity.of is None else _scaled(line.marks, far, size) if line.marks else None
    return Curve(
        style=MarkStyle.of(line.arm),
        mean=drawn_line(calm.x, calm.mean),
        band=drawn_line(calm.x, calm.low, calm.high) if line.seeds > 1 else None,
        raw=drawn_line(raw.x, raw.mean) if reports.factor else None,
        marks=some_of(marks.x, marks.mean) if marks else None,
        failed=tuple(drawn_line(x / far, y / size) for _run, x, y in line.failed),
    )


def _scaled(band: Band, far: float, size: float) -> Band:
    return replace(band, x=band.x / far, mean=band.mean / size, low=band.low / size, high=band.high / size)


def _note(reports: Reports, lines: Sequence[Line]) -> str:
    counts, parts = [line.seeds for line in lines if line.seeds], list[str]()
    if counts and max(counts) > 1:
        parts += [_("Line: mean of %(seeds)s.", seeds=seed_range(counts)), _("Band: smallest to largest seed.")]
    elif counts:
        parts.append(_("Line: one seed."))
    parts.append(smoothing_note(reports.factor))
    for line in lines:
        if (fewer_from := line.calm.fewer_from) is not None:
            left, every = int(line.calm.seeds[-1]), seed_range([line.seeds])
            values = {"arm": line.arm.title, "left": left, "seeds": every, "at": reports.x.say(fewer_from)}
            parts.append(_("%(arm)s: %(left)s of %(seeds)s from %(at)s on.", **values))
    parts += [_validated(reports, lines), lines_note(_lines(reports, lines)), _failures(lines)]
    if not reports.x.comparable(reports.study):
        parts.append(_("Times were not measured under the same conditions, so x positions are not comparable."))
    if reports.view.curve == "loss" and reports.view.by == "step":
        parts.append(_("Every arm trains on the same rows in the same order."))
    return " ".join(part for part in parts if part)


def smoothing_note(factor: float) -> str:
    """What a smoothed line is; empty without smoothing."""
    text = _("Smoothed by a moving average over about %(steps)s steps (factor %(factor)s); pale: as measured.")
    return text % {"steps": count(round(1 / (1 - factor))), "factor": general(factor, 3)} if factor else ""


def _validated(reports: Reports, lines: Sequence[Line]) -> str:
    items = next((e.n for evaluations in reports.validation.values() for e in evaluations), None)
    if items is None:
        return ""
    if reports.quantity.of is None:
        text = _("On %(items)s validation items. Each run keeps its best checkpoint.", items=count(items))
        if generates(reports.study.metric):
            metric = title(reports.study.metric)
            text += " " + _("Text is generated for the test split only, so there is no %(metric)s here.", metric=metric)
        return text
    marked = any(line.marks is not None and len(line.marks.x) for line in lines)
    return _("Markers: loss on %(items)s validation items.", items=count(items)) if marked else ""


def _failures(lines: Sequence[Line]) -> str:
    """Which runs failed where a cross stands."""
    ends = []
    for line in lines:
        reasons = dict.fromkeys(failure_label(run.failure) for run, _x, _y in line.failed if run.failure)
        if reasons:
            many = ngettext("%(num)s run", "%(num)s runs", len(line.failed))
            ends.append(_("%(arm)s: %(why)s, %(runs)s", arm=line.arm.title, why=join_names([*reasons]), runs=many))
    return _("Crosses: where runs failed (%(runs)s).", runs="; ".join(ends)) if ends else ""


def _table(reports: Reports, lines: Sequence[Line], top: float) -> Table:
    """Each arm's mean at a few places, and over how many seeds."""
    size = reports.quantity.unit(reports.study, top)[0]
    end = max((float(line.raw.x[-1]) for line in lines if len(line.raw.x)), default=0.0)
    start = min((float(line.raw.x[0]) for line in lines if len(line.raw.x)), default=0.0)
    places = np.linspace(start, end, ROWS) if end > start else np.array([end])
    columns = [Column("arm", _("arm")), Column("seeds", _("seeds"), count)]
    for at in places:
        columns.append(Column(f"at_{at:.6g}", reports.x.say(float(at)), partial(_shown, reports.quantity, size)))
    rows = [(line.arm.title, line.seeds, *(_at(line.calm, at) for at in places)) for line in lines]
    return Table(tuple(columns), tuple(rows))


def _shown(quantity: Quantity, size: float, value: float | None) -> str:
    return quantity.show(None if value is None else value / size)


def _at(band: Band, place: float) -> float | None:
    """The mean next to a place, within the line."""
    if not len(band.x) or place > band.x[-1]:
        return None
    value = float(band.mean[np.abs(band.x - place).argmin()])
    return value if np.isfinite(value) else None


def _every_step(reports: Reports) -> Table:
    """Every step of every run, unsmoothed: what the CSV holds."""
    runs = reports.study.runs
    parts = [((r.arm, r.seed, r.run_id), reports.steps[r.run_id]) for r in runs if r.run_id in reports.steps]
    return step_table(("arm", "seed", "run"), parts)


def _every_evaluation(reports: Reports) -> Table:
    """Every evaluation of every run on the validation split."""
    rows = (
        (run.arm, run.seed, run.run_id, e.step, e.epoch, e.score, e.loss)
        for run in reports.study.runs
        for e in reports.validation.get(run.run_id, ())
    )
    return Table.raw(("arm", "seed", "run", "step", "epoch", "score", "loss"), tuple(rows))
