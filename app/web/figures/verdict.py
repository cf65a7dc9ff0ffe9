"""The picture of the verdict."""

from app.domain.comparison.study import StudyArm, StudyComparison
from app.web.figures.drawing import differences
from app.web.figures.drawing.differences import Differences, Row
from app.web.figures.drawing.theme import MarkStyle
from app.web.figures.figure import Column, Figure, Table
from app.web.format import count, join_names, percent, points
from app.web.i18n import gettext as _
from app.web.i18n import ngettext
from app.web.text.metrics import title
from app.web.text.verdict import VERDICT_LABELS, interval_level, seed_range


def mark_style(arm: StudyArm) -> MarkStyle:
    """How an arm is drawn."""
    return MarkStyle(arm.title, arm.family, arm.hollow)


def verdict(found: StudyComparison) -> Figure:
    """Each arm's difference to the reference, its interval, and the margin."""
    reference, metric = found.reference.title, title(found.metric)
    data = Differences(tuple(_row(arm) for arm in found.others), found.spec.margin_points, reference)
    known = [row for row in data.rows if row.delta is not None]
    return Figure(
        name="verdict",
        title=_("Difference in %(metric)s from %(reference)s, points", metric=metric, reference=reference),
        label=_(
            "Difference in %(metric)s between each arm and %(reference)s, with intervals, over the margin of "
            "± %(margin)s points",
            metric=metric,
            reference=reference,
            margin=f"{found.spec.margin_points:g}",
        ),
        note=_note(found),
        data=data,
        draw=differences.chart,
        widths=(440, 356),
        table=_table(found),
        empty="" if known else _("No arm can be held against %(reference)s yet.", reference=reference),
    )


def _row(arm: StudyArm) -> Row:
    seen = arm.verdict.difference if arm.verdict else None
    if seen is None:
        return Row(mark_style(arm), _("no result") if arm.over else _("no result yet"))
    return Row(mark_style(arm), _(VERDICT_LABELS[arm.verdict_kind]), 100 * seen.delta, 100 * seen.low, 100 * seen.high)


def _note(found: StudyComparison) -> str:
    seen = found.differences
    if not seen:
        return ""
    items = ngettext("%(num)s test item", "%(num)s test items", found.items or 0)
    scored = [(arm, arm.score.seeds) for arm in found.arms if arm.score]
    over = seed_range(count for _arm, count in scored)
    text = _(
        "Lines: %(level)s over %(items)s, the same for every arm, and %(seeds)s.",
        level=interval_level(found),
        items=items,
        seeds=over,
    )
    if single := [arm.title for arm, count in scored if count == 1]:
        text += " " + _("With one seed (%(arms)s) they cover the test items only.", arms=join_names(single))
    return text


def _table(found: StudyComparison) -> Table:
    columns = (
        Column("arm", _("arm")),
        Column("difference", _("difference, points"), points),
        Column("low", _("from"), points),
        Column("high", _("to"), points),
        Column("confidence", _("confidence"), percent),
        Column("seeds", _("seeds"), count),
        Column("verdict", _("verdict")),
    )
    rows = []
    for arm in found.others:
        seen = arm.verdict.difference if arm.verdict else None
        numbers = (seen.delta, seen.low, seen.high, seen.confidence, seen.seeds) if seen else (None,) * 5
        rows.append((arm.title, *numbers, _(VERDICT_LABELS[arm.verdict_kind])))
    return Table(columns, tuple(rows))
