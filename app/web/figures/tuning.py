"""Learning rates that were tried, and what each reached on the validation split: a line an arm."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor, log10

from app.domain.comparison.study import StudyArm, StudyComparison
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
from app.web.format import capitalized, count, decimal, hundred, join_names, rate
from app.web.i18n import gettext as _
from app.web.i18n import ngettext
from app.web.text.metrics import heading, loss_unit, title

MOST_POWERS = 3
"""Of ten on the axis between which 3 × 10ᵏ is marked too."""


@dataclass(frozen=True)
class RateLine:
    """An arm's rates, smallest first, with what they reached."""

    style: MarkStyle
    points: tuple[tuple[float, float], ...]
    chosen: float | None


@dataclass(frozen=True)
class RateLines:
    """All arms that have a rate with a result."""

    lines: tuple[RateLine, ...]
    up: str
    """Title of the y axis."""
    across: str


def tuning(study: StudyComparison) -> Figure:
    """A line an arm over its rates: the verdict's metric, or the loss where the metric needs generated text."""
    by_loss = generates(study.metric)
    lines = tuple(line for arm in study.arms if (line := _line(arm, by_loss=by_loss)).points)
    measure = _("loss") if by_loss else title(study.metric)
    up = (
        _("Validation loss, %(unit)s", unit=loss_unit(study.spec.task))
        if by_loss
        else _("↑ %(metric)s on the validation split, %%", metric=heading(study.metric))
    )
    waits = _("No trial has ended yet.") if study.spec.tuning.rounds else _("No learning rate was tuned.")
    return Figure(
        name="tuning",
        title=_title(study),
        label=_("Validation %(measure)s by learning rate, one line per arm", measure=measure),
        note=_note(study),
        data=RateLines(lines, up, _("Learning rate →")),
        draw=chart,
        table=_table(study),
        empty="" if lines else waits,
    )


def chart(data: RateLines, width: int) -> alt.LayerChart:
    """Lines through each arm's rates over a logarithmic axis, markers, and a ring around the chosen one."""
    ordered = sorted(data.lines, key=lambda line: -line.points[-1][1])
    arms = ArmEncodings([line.style for line in ordered], width)
    rows: list[dict[str, object]] = [
        {"arm": line.style.name, "rate": tried, "value": value, "chosen": tried == line.chosen}
        for line in data.lines
        for tried, value in line.points
    ]
    tried = [rate for line in data.lines for rate, _value in line.points]
    powers = range(floor(log10(min(tried))), ceil(log10(max(tried))) + 1)
    marks = [lead * 10.0**power for power in powers for lead in ((1, 3) if len(powers) <= MOST_POWERS else (1,))]
    across = alt.Scale(type="log", padding=14, nice=False)
    position = {
        "x": alt.X("rate:Q", scale=across, axis=marked_axis(marks, format=".0e", title=data.across)),
        "y": alt.Y("value:Q", scale=alt.Scale(zero=False, padding=14, nice=False), axis=number_axis()),
    }
    ring = values([row for row in rows if row["chosen"]]).mark_point(
        size=340, strokeWidth=1.6, color=INK, shape="circle"
    )
    return frame(
        values(rows).mark_line(strokeWidth=1.6).encode(**position, **arms.lines),
        ring.encode(**position),
        values(rows).mark_point(size=70, opacity=1, strokeWidth=2).encode(**position, **arms.markers),
        width=width,
        height=240 if width > WIDE_FROM else 210,
        up=data.up,
    )


def _line(arm: StudyArm, *, by_loss: bool) -> RateLine:
    last = arm.tuning.last_tried if arm.tuning else ()
    reached = ((tried.rate, tried.loss if by_loss else tried.score) for tried in last)
    points = tuple((rate, value if by_loss else 100 * value) for rate, value in reached if value is not None)
    return RateLine(MarkStyle.of(arm), points, arm.tuning.chosen if arm.tuning else None)


def _title(study: StudyComparison) -> str:
    chosen = [arm for arm in study.arms if arm.tuning and arm.tuning.chosen is not None]
    if any(arm.awaits_rate for arm in study.arms) or not chosen:
        return _("Learning rates tried so far")
    at_edge = [arm.title for arm in chosen if arm.tuning and arm.tuning.edge]
    if not at_edge:
        return _("Every arm's best learning rate lies within the range tried")
    return capitalized(
        _("the best learning rate of %(arms)s is at the end of the range tried", arms=join_names(at_edge))
    )


def _note(study: StudyComparison) -> str:
    trials = [trial for arm in study.arms for trial in arm.trials]
    if not trials:
        return ""
    seeds = ngettext("%(num)s seed", "%(num)s seeds", len({trial.seed for trial in trials}))
    parts = [_("One marker per rate, mean of %(seeds)s. Ring: the rate chosen for the arm's runs.", seeds=seeds)]
    if any(trial.round for trial in trials):
        parts.append(_("Each rate is shown for its last round; rounds differ in length."))
    lost = sum(tried.lost for arm in study.arms if arm.tuning for tried in arm.tuning.last_tried)
    if lost:
        text = ngettext(
            "%(num)s trial has no result and is not drawn.", "%(num)s trials have no result and are not drawn.", lost
        )
        parts.append(text)
    parts.append(_("Chosen on the validation split; the test split was not used."))
    return " ".join(parts)


def _table(study: StudyComparison) -> Table:
    columns = (
        Column("arm", _("arm")),
        Column("learning_rate", _("learning rate"), rate),
        Column("round", _("round"), lambda place: str(place + 1)),
        Column("score", _("%(metric)s, %%", metric=title(study.metric)), hundred),
        Column("loss", _("loss"), lambda value: decimal(value, 3)),
        Column("trials", _("trials"), count),
        Column("lost", _("without a result"), count),
        Column("chosen", _("chosen"), lambda yes: _("yes") if yes else _("no")),
    )
    rows: list[tuple[Cell, ...]] = [
        (arm.title, t.rate, t.round, t.score, t.loss, len(t.trials), t.lost, int(arm.tuning.is_chosen(t)))
        for arm in study.arms
        if arm.tuning
        for t in arm.tuning.tried
    ]
    return Table(columns, tuple(rows))
