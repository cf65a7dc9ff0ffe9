"""Configurations that were tried, and what each reached on the validation split.

If only learning rates were searched, a line per arm over them; otherwise every trial in its order, with the best so far
as a line.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import ceil, floor, log10

from app.domain.comparison.study import StudyArm, StudyComparison
from app.domain.studies.tuning.search_space import Parameter
from app.domain.studies.tuning.trials import Tried
from app.domain.tasks import generates
from app.web.figures.drawing import grammar as alt
from app.web.figures.drawing.theme import (
    INK,
    WIDE_FROM,
    ArmEncodings,
    MarkStyle,
    frame,
    marked_axis,
    number_axis,
    values,
)
from app.web.figures.figure import Cell, Column, Figure, Table
from app.words.format import capitalized, count, decimal, hundred, join_names
from app.words.i18n import gettext as _
from app.words.i18n import ngettext
from app.words.runs.metrics import heading, loss_unit, title
from app.words.studies.tuning import parameter_label, value_text, varied

MOST_NUMBERS = 12
"""Numbers on the axis of configurations."""
MOST_POWERS = 3
"""Powers of ten on the axis between which 3 × 10ᵏ is marked too."""


@dataclass(frozen=True)
class RateLine:
    """An arm's configurations with what they reached, by learning rate or in the order of their trials."""

    style: MarkStyle
    points: tuple[tuple[float, float], ...]
    line: tuple[tuple[float, float], ...]
    """Through the rates, or the best so far."""
    chosen: float | None
    """On the x axis."""


@dataclass(frozen=True)
class RateLines:
    """All arms that have a configuration with a result."""

    lines: tuple[RateLine, ...]
    up: str
    """Title of the y axis."""
    across: str
    by_rate: bool
    """The x axis is a logarithmic one of learning rates; else it numbers the configurations of an arm."""


def tuning(study: StudyComparison) -> Figure:
    """A line per arm: the verdict's metric, or the loss where the metric needs generated text."""
    by_loss, by_rate = generates(study.metric), set(varied(study)) <= {"learning_rate"}
    make = _over_rates if by_rate else _in_order
    lines = tuple(line for arm in study.arms if (line := make(arm, by_loss=by_loss)).points)
    measure = _("loss") if by_loss else title(study.metric)
    up = (
        _("Validation loss, %(unit)s", unit=loss_unit(study.spec.task))
        if by_loss
        else _("↑ %(metric)s on the validation split, %%", metric=heading(study.metric))
    )
    across = _("Learning rate →") if by_rate else _("Configuration, in the order tried →")
    waits = _("No trial has ended yet.") if study.spec.tuning.rounds else _("Nothing was tuned.")
    return Figure(
        name="tuning",
        title=_title(study),
        label=_("Validation %(measure)s by learning rate, one line per arm", measure=measure)
        if by_rate
        else _("Validation %(measure)s by trial, one line per arm", measure=measure),
        note=_note(study),
        data=RateLines(lines, up, across, by_rate),
        draw=chart,
        table=_table(study),
        empty="" if lines else waits,
    )


def chart(data: RateLines, width: int) -> alt.LayerChart:
    """Each arm's line and markers, and a ring around the chosen configuration."""
    ordered = sorted(data.lines, key=lambda line: -line.points[-1][1])
    arms = ArmEncodings([line.style for line in ordered], width)
    rows: list[dict[str, object]] = [
        {"arm": line.style.name, "x": tried, "value": value, "chosen": tried == line.chosen}
        for line in data.lines
        for tried, value in line.points
    ]
    through: list[dict[str, object]] = [
        {"arm": line.style.name, "x": tried, "value": value} for line in data.lines for tried, value in line.line
    ]
    position = {
        "x": _across(data),
        "y": alt.Y("value:Q", scale=alt.Scale(zero=False, padding=14, nice=False), axis=number_axis()),
    }
    ring = values([row for row in rows if row["chosen"]]).mark_point(
        size=340, strokeWidth=1.6, color=INK, shape="circle"
    )
    return frame(
        values(through)
        .mark_line(strokeWidth=1.6, interpolate="linear" if data.by_rate else "step-after")
        .encode(**position, **arms.lines),
        ring.encode(**position),
        values(rows).mark_point(size=70, opacity=1, strokeWidth=2).encode(**position, **arms.markers),
        width=width,
        height=240 if width > WIDE_FROM else 210,
        up=data.up,
    )


def _across(data: RateLines) -> alt.X:
    tried = [x for line in data.lines for x, _value in line.points]
    if not data.by_rate:
        most = int(max(tried))
        step = max(1, ceil(most / MOST_NUMBERS))
        numbers = alt.Scale(domain=[1, max(2, most)], padding=14, nice=False)
        marks = [float(number) for number in range(1, most + 1, step)]
        return alt.X("x:Q", scale=numbers, axis=marked_axis(marks, format="d", title=data.across))
    powers = range(floor(log10(min(tried))), ceil(log10(max(tried))) + 1)
    marks = [lead * 10.0**power for power in powers for lead in ((1, 3) if len(powers) <= MOST_POWERS else (1,))]
    rates = alt.Scale(type="log", padding=14, nice=False)
    return alt.X("x:Q", scale=rates, axis=marked_axis(marks, format=".0e", title=data.across))


def _value(tried: Tried, *, by_loss: bool) -> float | None:
    value = tried.loss if by_loss else tried.score
    return value if by_loss or value is None else 100 * value


def _over_rates(arm: StudyArm, *, by_loss: bool) -> RateLine:
    last = arm.tuning.last_tried if arm.tuning else ()
    reached = ((tried.rate, _value(tried, by_loss=by_loss)) for tried in last)
    points = tuple((rate, value) for rate, value in reached if value is not None)
    chosen = arm.tuning.chosen if arm.tuning else None
    return RateLine(MarkStyle.of(arm), points, points, chosen.learning_rate if chosen else None)


def _in_order(arm: StudyArm, *, by_loss: bool) -> RateLine:
    """Round by round: the best so far begins anew with each round, since rounds differ in length."""
    tried = sorted(arm.tuning.tried if arm.tuning else (), key=lambda one: (one.round, one.trials[0].run_id))
    points: list[tuple[float, float]] = []
    best: list[tuple[float, float]] = []
    chosen = None
    for place, one in enumerate(tried):
        number = float(place + 1)
        if place and tried[place - 1].round != one.round:
            best = []
        if (value := _value(one, by_loss=by_loss)) is None:
            continue
        points.append((number, value))
        best.append((number, (min if by_loss else max)([value, *(reached for _x, reached in best)])))
        if arm.tuning and arm.tuning.is_chosen(one):
            chosen = number
    return RateLine(MarkStyle.of(arm), tuple(points), tuple(best), chosen)


def _title(study: StudyComparison) -> str:
    chosen = [arm for arm in study.arms if arm.tuning and arm.tuning.chosen is not None]
    if any(arm.awaits_rate for arm in study.arms) or not chosen:
        return _("Configurations tried so far")
    at_edge = [arm.title for arm in chosen if arm.tuning and arm.tuning.edges]
    if set(varied(study)) <= {"learning_rate"}:
        if not at_edge:
            return _("Every arm's best learning rate lies within the range tried")
        return capitalized(
            _("the best learning rate of %(arms)s is at the end of the range tried", arms=join_names(at_edge))
        )
    if not at_edge:
        return _("Every arm's best configuration lies within its search space")
    return capitalized(
        _("the best configuration of %(arms)s is at the edge of its search space", arms=join_names(at_edge))
    )


def _note(study: StudyComparison) -> str:
    trials = [trial for arm in study.arms for trial in arm.trials]
    by_rate = set(varied(study)) <= {"learning_rate"}
    if not trials:
        return ""
    seeds = ngettext("%(num)s seed", "%(num)s seeds", len({trial.seed for trial in trials}))
    if by_rate:
        parts = [_("One marker per rate, mean of %(seeds)s. Ring: the rate chosen for the arm's runs.", seeds=seeds)]
    else:
        parts = [
            _("One marker per configuration, mean of %(seeds)s. Line: the best so far. Ring: chosen.", seeds=seeds)
        ]
    if any(trial.round for trial in trials):
        last = _("Each rate is shown for its last round; rounds differ in length.")
        parts.append(last if by_rate else _("Rounds differ in length; the line begins anew with the last."))
    lost = sum(tried.lost for arm in study.arms if arm.tuning for tried in arm.tuning.last_tried)
    if lost:
        text = ngettext(
            "%(num)s trial has no result and is not drawn.", "%(num)s trials have no result and are not drawn.", lost
        )
        parts.append(text)
    parts.append(_("Chosen on the validation split; the test split was not used."))
    return " ".join(parts)


def _table(study: StudyComparison) -> Table:
    names = varied(study) or ["learning_rate"]
    columns = (
        Column("arm", _("arm")),
        *(Column(name, parameter_label(name), partial(value_text, name)) for name in names),
        Column("round", _("round"), lambda place: str(place + 1)),
        Column("score", _("%(metric)s, %%", metric=title(study.metric)), hundred),
        Column("loss", _("loss"), lambda value: decimal(value, 3)),
        Column("trials", _("trials"), count),
        Column("lost", _("without a result"), count),
        Column("chosen", _("chosen"), lambda yes: _("yes") if yes else _("no")),
    )
    rows: list[tuple[Cell, ...]] = [
        (arm.title, *_cells(t, names), t.round, t.score, t.loss, len(t.trials), t.lost, int(arm.tuning.is_chosen(t)))
        for arm in study.arms
        if arm.tuning
        for t in arm.tuning.tried
    ]
    return Table(columns, tuple(rows))


def _cells(tried: Tried, names: list[Parameter]) -> tuple[Cell, ...]:
    """What it tried; its learning rate even where that was not searched."""
    values = {"learning_rate": tried.rate} | tried.configuration.values
    return tuple(values.get(name) for name in names)
