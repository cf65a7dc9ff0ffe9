"""The figures of a study by name: which there are, and what each reads from the store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import isfinite

from sqlalchemy.orm import Session

from app.domain.comparison.study import StudyArm, StudyComparison
from app.domain.resources.memory_fit import RunFit
from app.domain.runs.result import Steps
from app.services.resources import memory_fit
from app.services.studies import studies as study_service
from app.settings import Settings
from app.store.runs import evaluations, steps, weight_deltas
from app.store.runs import queries as runs
from app.store.tables import EvaluationRow
from app.web.figures.curves.curves import curves
from app.web.figures.drawing import grammar as alt
from app.web.figures.drawing.arm_names import names_above, names_beside
from app.web.figures.drawing.reference_rows import difference_references, lines_note
from app.web.figures.drawing.references import Reference, down, head_height, near
from app.web.figures.drawing.theme import BAND, INK, WIDE_FROM, MarkStyle, frame, markers, own_colour, values
from app.web.figures.figure import Column, Figure, Table, choose
from app.web.figures.resources.break_even import break_even
from app.web.figures.resources.memory import memory
from app.web.figures.resources.time import time
from app.web.figures.runs.matrices import study_matrices
from app.web.figures.runs.scores import scores
from app.web.figures.runs.weight_delta import ArmDelta, study_energy
from app.web.figures.studies.trade_off import trade_off
from app.web.figures.studies.tuning import tuning
from app.web.figures.studies.view import ViewParams
from app.words.format import count, general, join_names, percent, points
from app.words.i18n import gettext as _
from app.words.i18n import ngettext
from app.words.runs.metrics import title
from app.words.verdict.verdict import interval_level, seed_range, unusable_text, verdict_label


@dataclass(frozen=True)
class Row:
    """An arm. Points; None where there is no interval, infinite where it has no end."""

    style: MarkStyle
    word: str
    delta: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Differences:
    """The arms that are not the reference, and the baselines near them."""

    rows: tuple[Row, ...]
    margin: float
    reference: str
    two_sided: bool = False
    """A gain beyond the margin lies outside of the band, too."""
    lines: tuple[Reference, ...] = ()

    @property
    def ends(self) -> tuple[float, float]:
        """Ends of the axis: the margin, every interval, and the lines."""
        known = [end for row in self.rows for end in (row.delta, row.low, row.high) if end is not None]
        known += [line.value for line in self.lines]
        drawable = [-self.margin, self.margin, *(end for end in known if isfinite(end))]
        return min(drawable), max(drawable)


def verdict(study: StudyComparison) -> Figure:
    """Each arm's difference from the reference, its interval, the margin, and the baselines near them."""
    reference, metric = study.reference.title, title(study.metric)
    data = Differences(
        tuple(_row(arm) for arm in study.others), study.spec.margin_points, reference, study.alternative.two_sided
    )
    lines = difference_references(study)
    drawn = near(lines, *data.ends)
    data = replace(data, lines=tuple(line for line in lines if line in drawn))
    measured = any(row.delta is not None for row in data.rows)
    return Figure(
        name="verdict",
        title=_("Difference in %(metric)s from %(reference)s, points", metric=metric, reference=reference),
        label=_(
            "Difference in %(metric)s between each arm and %(reference)s, with intervals and the margin of %(margin)s "
            "points",
            metric=metric,
            reference=reference,
            margin=general(study.spec.margin_points),
        ),
        note=_note(study, data.lines, [line for line in lines if line not in drawn]),
        data=data,
        draw=chart,
        widths=(440, 356),
        table=_table(study),
        empty="" if measured else _("No arm can be compared with %(reference)s yet.", reference=reference),
    )


def chart(data: Differences, width: int) -> alt.LayerChart:
    """Intervals (lines), means (markers), the margin (band), no difference (line at 0), baselines (dashed). Points.

    Names stand beside the intervals; in a narrow drawing above them, where the band is left out."""
    wide, step = width > WIDE_FROM, 44 if width > WIDE_FROM else 56
    head = head_height(data.lines)
    height = head + step * max(len(data.rows), 1)
    middles = [head + step * i + (22 if wide else 44) for i in range(len(data.rows))]
    low, high = data.ends
    air = 0.08 * (high - low)
    domain = [low - air, high + air]
    x_scale = alt.Scale(domain=domain, nice=False)
    y_scale = alt.Scale(domain=[height, 0], nice=False, zero=False)
    rows = [
        row.style.fields
        | {"y": y, "word": row.word, "delta": row.delta}
        | {"low": max(row.low or 0.0, domain[0]), "high": min(row.high or 0.0, domain[1])}
        for row, y in zip(data.rows, middles, strict=True)
    ]
    known = [row for row in rows if row["delta"] is not None]
    lanes = [
        {
            "low": -data.margin,
            "high": data.margin if data.two_sided else domain[1],
            "zero": 0,
            "top": head + step * i + (0 if wide else 31),
            "end": head + step * (i + 1),
        }
        for i in range(len(data.rows))
    ]
    axis = alt.Axis(title=None, tickCount=4, labelExpr="datum.value > 0 ? '+' + datum.label : datum.label")
    across, y = alt.X("low:Q", scale=x_scale, axis=axis), alt.Y("y:Q", scale=y_scale, axis=None)
    top, end = alt.Y("top:Q", scale=y_scale, axis=None), alt.Y2("end:Q")
    band = values(lanes).mark_rect(color=BAND).encode(x=across, x2=alt.X2("high:Q"), y=top, y2=end)
    zero = values(lanes).mark_rule(color=INK, strokeWidth=1)
    interval = values(known).mark_rule(strokeWidth=2.5, strokeCap="round")
    words = [row.word for row in data.rows]
    names = (
        names_beside([row.style for row in data.rows], middles, y_scale, words) if wide else names_above(rows, y, -23)
    )
    drawing = frame(
        band,
        zero.encode(x=alt.X("zero:Q", scale=x_scale), y=top, y2=end),
        *down(data.lines, x_scale, domain, height),
        interval.encode(x=alt.X("low:Q", scale=x_scale), x2=alt.X2("high:Q"), y=y, color=own_colour()),
        markers(known, 110, x=alt.X("delta:Q", scale=x_scale), y=y),
        *names,
        width=width,
        height=height,
        up=_band(data),
    )
    both_sides: alt.LayerChart = drawing.resolve_axis(y="independent")
    return both_sides


def _band(data: Differences) -> str:
    """What the band of the drawing is."""
    names = {"reference": data.reference, "margin": general(data.margin)}
    if data.two_sided:
        return _("Band: %(reference)s ± %(margin)s, the margin", **names)
    return _("Band: from %(margin)s below %(reference)s, the margin, upwards", **names)


def _row(arm: StudyArm) -> Row:
    difference = arm.verdict.difference if arm.verdict else None
    style = MarkStyle.of(arm)
    if difference is None:
        return Row(style, _("no result") if arm.over else _("no result yet"))
    if not difference.usable:
        return Row(style, unusable_text(difference))
    return Row(style, verdict_label(arm.verdict), 100 * difference.delta, 100 * difference.low, 100 * difference.high)


def _note(study: StudyComparison, lines: Sequence[Reference], beyond: Sequence[Reference]) -> str:
    if not study.differences:
        return ""
    scored = [(arm, arm.score.seeds) for arm in study.arms if arm.score]
    text = _(
        "Lines: %(level)s over %(items)s, the same for every arm, and %(seeds)s.",
        level=interval_level(study),
        items=ngettext("%(num)s test item", "%(num)s test items", study.items or 0),
        seeds=seed_range(number for _arm, number in scored),
    )
    if single := [arm.title for arm, number in scored if number == 1]:
        text += " " + _("With one seed (%(arms)s) they cover the test items only.", arms=join_names(single))
    parts = [text, lines_note(lines)]
    if beyond:
        names = join_names([line.label for line in beyond])
        parts.append(
            _(
                "Beyond the axis, points from %(reference)s: %(baselines)s.",
                reference=study.reference.title,
                baselines=names,
            )
        )
    return " ".join(part for part in parts if part)


def _table(study: StudyComparison) -> Table:
    columns = (
        Column("arm", _("arm or baseline")),
        Column("difference", _("difference, points"), points),
        Column("low", _("from"), points),
        Column("high", _("to"), points),
        Column("confidence", _("confidence"), percent),
        Column("seeds", _("seeds"), count),
        Column("verdict", _("verdict")),
    )
    rows = []
    for arm in study.others:
        d = arm.verdict.difference if arm.verdict else None
        ends = (d.low, d.high) if d and d.usable else (None, None)
        numbers = (d.delta, *ends, d.confidence, d.seeds) if d else (None,) * 5
        rows.append((arm.title, *numbers, verdict_label(arm.verdict)))
    for baseline in study.baselines:
        if gap := baseline.difference:
            rows.append((_(baseline.title), gap.mean, gap.low, gap.high, study.confidence, gap.seeds, ""))
    return Table(columns, tuple(rows))


@dataclass(frozen=True)
class StudyData:
    """What the figures of a study need; each part is read when a figure first needs it."""

    session: Session
    settings: Settings
    study_id: int

    @cached_property
    def comparison(self) -> StudyComparison:
        """Comparison of its arms. Raises NotFound."""
        return study_service.comparison(self.session, self.study_id)

    @cached_property
    def steps(self) -> Mapping[int, Steps]:
        """Every step of every run, by run."""
        return steps.read_many(self.session, self._runs)

    @cached_property
    def validation(self) -> Mapping[int, Sequence[EvaluationRow]]:
        """Evaluations on the validation split, by run."""
        by_run: dict[int, list[EvaluationRow]] = {}
        for row in evaluations.of_runs(self.session, self._runs, "validation"):
            by_run.setdefault(row.run_id, []).append(row)
        return by_run

    @cached_property
    def estimates(self) -> Mapping[str, RunFit]:
        """What was estimated for each arm: for its first run that succeeded, since its seeds need the same."""
        estimates = {}
        for arm in self.comparison.arms:
            if arm.succeeded:
                run = runs.get(self.session, arm.succeeded[0].run_id)
                fit = memory_fit.run_fit(self.session, None, self.settings, run)
                if fit.peak:
                    estimates[arm.title] = fit
        return estimates

    @cached_property
    def deltas(self) -> Mapping[str, ArmDelta]:
        """The weight updates of each arm with an analysed run: the first seed's spectra, and every seed's summary."""
        summaries = weight_deltas.summaries(self.session, self._runs)
        analysed = {
            arm.title: [run for run in arm.succeeded if run.run_id in summaries] for arm in self.comparison.arms
        }
        first = {title: seeds[0] for title, seeds in analysed.items() if seeds}
        updates = weight_deltas.of_runs(self.session, [run.run_id for run in first.values()])
        return {
            title: ArmDelta(
                run_id=run.run_id,
                seed=run.seed,
                updates=updates[run.run_id],
                effective_ranks=tuple(s.effective_rank for r in analysed[title] if (s := summaries[r.run_id])),
            )
            for title, run in first.items()
        }

    @property
    def _runs(self) -> list[int]:
        return [run.run_id for run in self.comparison.runs]


FIGURES: Mapping[str, Callable[[StudyData, ViewParams], Figure]] = {
    "verdict": lambda data, view: verdict(data.comparison),
    "trade-off": lambda data, view: trade_off(data.comparison, view.x, view.y),
    "curves": lambda data, view: curves(data.comparison, data.steps, data.validation, view),
    "memory": lambda data, view: memory(data.comparison, data.estimates),
    "time": lambda data, view: time(data.comparison, data.estimates),
    "weight-delta": lambda data, view: study_energy(data.comparison, data.deltas),
    "matrices": lambda data, view: study_matrices(data.comparison, data.deltas, view),
    "break-even": lambda data, view: break_even(data.comparison, view),
    "tuning": lambda data, view: tuning(data.comparison),
    "scores": lambda data, view: scores(data.comparison),
}
"""By the name in a figure's address; each line says what the figure reads."""


def study_figure(data: StudyData, view: ViewParams, name: str) -> Figure:
    """A study's figure. Raises NotFound, naming the choices."""
    return choose(FIGURES, name)(data, view)
