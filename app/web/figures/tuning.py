"""Learning rates that were tried: what each reached on the validation split."""

from app.domain.comparison.study import StudyArm, StudyComparison
from app.domain.studies.tuning import Tried
from app.domain.tasks import generates
from app.web.figures.drawing import tuning as drawing
from app.web.figures.drawing.tuning import RateLine, RateLines
from app.web.figures.figure import Cell, Column, Figure, Table
from app.web.figures.verdict import mark_style
from app.web.format import capitalized, count, decimal, hundred, join_names, rate
from app.web.i18n import gettext as _
from app.web.i18n import ngettext
from app.web.text.metrics import heading, loss_unit, title


def tuning(found: StudyComparison) -> Figure:
    """A line an arm over its rates; the verdict's metric, or the loss where that needs generated text."""
    by_loss = generates(found.metric)
    lines = tuple(line for arm in found.arms if (line := _line(arm, by_loss=by_loss)).points)
    measure = _("loss") if by_loss else title(found.metric)
    y = (
        _("Validation loss, %(unit)s", unit=loss_unit(found.spec.task))
        if by_loss
        else _("↑ %(metric)s on the validation split, %%", metric=heading(found.metric))
    )
    waits = _("No trial has ended yet.") if found.spec.tuning.rounds else _("No rate was looked for.")
    return Figure(
        name="tuning",
        title=_title(found),
        label=_("Validation %(measure)s by learning rate, a line an arm", measure=measure),
        note=_note(found),
        data=RateLines(lines, y, _("Learning rate →"), None if by_loss else 100.0),
        draw=drawing.chart,
        widths=(556, 356),
        table=_table(found),
        empty="" if lines else waits,
    )


def last_tried(arm: StudyArm) -> list[Tried]:
    """Each rate of an arm in the last round that it was in, smallest first."""
    latest = {one.rate: one for one in arm.tuning.tried} if arm.tuning else {}
    return [latest[rate] for rate in sorted(latest)]


def _line(arm: StudyArm, *, by_loss: bool) -> RateLine:
    reached = ((one.rate, one.loss if by_loss else one.score) for one in last_tried(arm))
    points = tuple((rate, v if by_loss else 100 * v) for rate, v in reached if v is not None)
    return RateLine(mark_style(arm), points, arm.tuning.chosen if arm.tuning else None)


def _title(found: StudyComparison) -> str:
    chosen = [arm for arm in found.arms if arm.tuning and arm.tuning.chosen is not None]
    if any(arm.awaits_rate for arm in found.arms) or not chosen:
        return _("Learning rates tried so far")
    at_edge = [arm.title for arm in chosen if arm.tuning and arm.tuning.edge]
    if not at_edge:
        return _("Every arm's best rate lies within those tried")
    text = _("the best rate of %(arms)s is at the end of those tried", arms=join_names(at_edge))
    return capitalized(text)


def _note(found: StudyComparison) -> str:
    trials = [trial for arm in found.arms for trial in arm.trials]
    if not trials:
        return ""
    seeds = ngettext("%(num)s seed", "%(num)s seeds", len({trial.seed for trial in trials}))
    parts = [_("One marker a rate, mean over %(seeds)s. Ring: the rate that the arm's runs take.", seeds=seeds)]
    if any(trial.round for trial in trials):
        parts.append(_("A rate is shown by the last round that it was in; rounds differ in length."))
    lost = sum(one.lost for arm in found.arms for one in last_tried(arm))
    if lost:
        text = ngettext(
            "%(num)s trial has no result and is not drawn.", "%(num)s trials have no result and are not drawn.", lost
        )
        parts.append(text)
    parts.append(_("Chosen on the validation split; the test split was not read."))
    return " ".join(parts)


def _table(found: StudyComparison) -> Table:
    columns = (
        Column("arm", _("arm")),
        Column("learning_rate", _("learning rate"), rate),
        Column("round", _("round"), lambda place: str(place + 1)),
        Column("score", _("%(metric)s, %%", metric=title(found.metric)), hundred),
        Column("loss", _("loss"), lambda value: decimal(value, 3)),
        Column("trials", _("trials"), count),
        Column("lost", _("without a result"), count),
        Column("chosen", _("chosen"), lambda yes: _("yes") if yes else _("no")),
    )
    rows: list[tuple[Cell, ...]] = [
        (arm.title, one.rate, one.round, one.score, one.loss, len(one.trials), one.lost, int(_is_chosen(arm, one)))
        for arm in found.arms
        if arm.tuning
        for one in arm.tuning.tried
    ]
    return Table(columns, tuple(rows))


def _is_chosen(arm: StudyArm, one: Tried) -> bool:
    return arm.tuning is not None and one.rate == arm.tuning.chosen and one in last_tried(arm)
