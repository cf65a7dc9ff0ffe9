"""The score against memory, and against time."""

from collections.abc import Callable
from functools import partial

from app.domain.comparison import Arm, Comparison, Costs, Spread
from app.domain.verdict import VerdictKind
from app.web.charts import trade_off
from app.web.charts.trade_off import Missing, Point, TradeOff
from app.web.figures.figure import Column, Figure, Table
from app.web.figures.verdict import look
from app.web.i18n import gettext as _
from app.web.i18n import ngettext
from app.web.numbers import MIB, decimal, duration, hundred, memory, mib
from app.web.words.metrics import heading, title
from app.web.words.parts import distance, focus, kind, margin, said, seeds, sentence, why

SECOND = 1.0


def score_memory(found: Comparison) -> Figure:
    """Over the measured peak."""
    return _figure(
        found,
        name="score-memory",
        cost=lambda costs: costs.peak_bytes,
        unit=MIB,
        say=memory,
        comparable=found.memory_comparable,
        axis=_("Peak memory above the idle process, MiB →"),
        title=_memory_title(found),
        label=_("%(metric)s against peak memory, one point an arm", metric=heading(found.metric)),
        column=("peak_bytes", _("peak, MiB"), partial(mib, digits=0)),
        other=("score-time", _("over train time instead")),
    )


def score_time(found: Comparison) -> Figure:
    """Over the train clock."""
    return _figure(
        found,
        name="score-time",
        cost=lambda costs: costs.train_seconds,
        unit=SECOND,
        say=duration,
        comparable=found.times_comparable,
        axis=_("Train time, s →"),
        title=_time_title(found),
        label=_("%(metric)s against train time, one point an arm", metric=heading(found.metric)),
        column=("train_seconds", _("train time, s"), decimal),
        other=("score-memory", _("over peak memory instead")),
    )


def _figure(
    found: Comparison,
    *,
    name: str,
    cost: Callable[[Costs], Spread],
    unit: float,
    say: Callable[[float], str],
    comparable: bool,
    axis: str,
    title: str,
    label: str,
    column: tuple[str, str, Callable[..., str]],
    other: tuple[str, str],
) -> Figure:
    points = tuple(_point(arm, cost(arm.costs), unit, say) for arm in found.arms if arm.score and arm.costs)
    data = TradeOff(
        points=points,
        missing=tuple(Missing(look(arm), _failure(arm)) for arm in found.arms if not arm.score and arm.failed),
        untouched=100 * found.base.mean if found.base else None,
        measure=_("↑ %(metric)s on the test split, %%", metric=heading(found.metric)),
        axis=axis,
        comparable=comparable,
    )
    return Figure(
        name=name,
        title=title,
        label=label,
        note=_note(found, comparable),
        data=data,
        draw=trade_off.chart,
        widths=(556, 356),
        table=_table(found, cost, column),
        other=other,
        empty="" if points else _("No run has a result yet."),
    )


def _point(arm: Arm, cost: Spread, unit: float, say: Callable[[float], str]) -> Point:
    score = arm.score
    assert score is not None  # noqa: S101  (the caller looks)
    return Point(
        look=look(arm),
        note=f"{hundred(score.mean)} %, {say(cost.mean)}",
        score=100 * score.mean,
        low=max(0.0, 100 * score.low),
        high=min(100.0, 100 * score.high),
        cost=cost.mean / unit,
        cost_low=cost.low / unit,
        cost_high=cost.high / unit,
    )


def _failure(arm: Arm) -> str:
    reason = next((run.failure for run in arm.failed if run.failure), None)
    return why(reason) if reason else _("cancelled")


def _memory_title(found: Comparison) -> str:
    arm = focus(found)
    own, its = (arm.costs if arm else None), found.reference.costs
    if arm is None or own is None or its is None or not found.memory_comparable:
        return _("%(metric)s against peak memory", metric=heading(found.metric))
    values = {
        "arm": said(arm),
        "reference": said(found.reference),
        "own": memory(own.peak_bytes.mean),
        "its": memory(its.peak_bytes.mean),
    }
    return _trade(found, arm, cheaper=own.peak_bytes.mean < its.peak_bytes.mean, values=values)


def _time_title(found: Comparison) -> str:
    arm = focus(found)
    own, its = (arm.costs if arm else None), found.reference.costs
    if arm is None or own is None or its is None or not found.times_comparable:
        return _("%(metric)s against train time", metric=heading(found.metric))
    values = {
        "arm": said(arm),
        "reference": said(found.reference),
        "own": duration(own.train_seconds.mean),
        "its": duration(its.train_seconds.mean),
    }
    return _trade(found, arm, cheaper=own.train_seconds.mean < its.train_seconds.mean, values=values)


def _trade(found: Comparison, arm: Arm, *, cheaper: bool, values: dict[str, str]) -> str:
    """What one gets for what one pays; no more than the verdict says."""
    match kind(arm):
        case VerdictKind.WITHIN if cheaper:
            text = _("%(reference)s takes %(its)s for what %(arm)s reaches with %(own)s", **values)
        case VerdictKind.BETTER if cheaper:
            text = _("%(arm)s is better with %(own)s than %(reference)s with %(its)s", **values)
        case VerdictKind.WORSE if cheaper:
            text = _("%(arm)s takes %(own)s instead of %(its)s, and loses %(by)s", by=distance(arm), **values)
        case VerdictKind.UNDECIDED | VerdictKind.HINT if cheaper:
            text = _(
                "%(arm)s takes %(own)s instead of %(its)s; whether it stays within %(margin)s is undecided",
                margin=margin(found),
                **values,
            )
        case _:
            text = _("%(arm)s takes %(own)s, %(reference)s %(its)s", **values)
    return sentence(text)


def _note(found: Comparison, comparable: bool) -> str:
    counts = [a.score.seeds for a in found.arms if a.score]
    if not counts:
        return ""
    items = ngettext("%(num)s test item", "%(num)s test items", found.items or 0)
    runs = _("Mean of %(seeds)s", seeds=seeds(counts)) if max(counts) > 1 else _("One seed")
    parts = [
        _(
            "%(runs)s, %(items)s; upright lines are 95 %% intervals, level ones the range of the seeds.",
            runs=runs,
            items=items,
        )
    ]
    if comparable and len(counts) > 1:
        parts.append(_("Dashed: the arms that no other beats on both."))
    if not comparable:
        parts.append(_("Not measured under the same conditions, so no winner is drawn."))
    if len(counts) > 1:
        parts.append(
            _("An arm's own interval is wider than that of its difference, because all arms answer the same items.")
        )
    return " ".join(parts)


def _table(found: Comparison, cost: Callable[[Costs], Spread], column: tuple[str, str, Callable[..., str]]) -> Table:
    name, heading, show = column
    columns = (
        Column("arm", _("arm")),
        Column("score", _("%(metric)s, %%", metric=title(found.metric)), hundred),
        Column("score_low", _("from"), hundred),
        Column("score_high", _("to"), hundred),
        Column(name, heading, show),
        Column(f"{name}_least", _("least"), show),
        Column(f"{name}_most", _("most"), show),
    )
    rows: list[tuple[str | float | None, ...]] = []
    for arm in found.arms:
        score = (arm.score.mean, arm.score.low, arm.score.high) if arm.score else (None, None, None)
        spent = cost(arm.costs) if arm.costs else None
        rows.append((arm.title, *score, *((spent.mean, spent.low, spent.high) if spent else (None, None, None))))
    if found.base is not None:
        rows.append((_("untouched"), found.base.mean, found.base.low, found.base.high, None, None, None))
    return Table(columns, tuple(rows))
