"""The trade-off of any runs: the score over what it costs, and the arms that no other beats."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

from app.domain.comparison.costs import Spread
from app.domain.comparison.pareto import Better, pareto_front
from app.domain.comparison.runs import Compared, ComparedArm
from app.web.figures.drawing import trade_off as drawing
from app.web.figures.drawing.theme import MarkStyle
from app.web.figures.drawing.trade_off import Missing, Point, Reach, Side, TradeOff
from app.web.figures.figure import Cell, Column, Figure, Table
from app.web.format import (
    GIB,
    KIB,
    MIB,
    NOTHING,
    capitalized,
    duration,
    file_size,
    join_names,
    memory,
    percent,
    short_count,
)
from app.web.i18n import gettext as _
from app.web.i18n import marked
from app.web.text.metrics import heading, title
from app.web.text.runs_comparison import failed

Cost = Literal["memory", "time", "parameters", "file"]
COSTS: tuple[Cost, ...] = get_args(Cost)
LOG = 10.0
"""An axis whose largest value is more than so many times its smallest is logarithmic."""
HALF = 0.5
MOST_NAMED = 8
"""A sentence names at most so many arms."""


@dataclass(frozen=True)
class CostAxis:
    """What an arm costs, as an axis."""

    field: str
    """Of a comparison's costs."""
    title: str
    """Within a sentence."""
    say: Callable[[float], str]
    units: Callable[[float], tuple[float, str]]
    """From the largest value to the axis's unit and its name."""
    takes: Literal["memory", "time", ""]
    """What must have been measured alike."""

    def comparable(self, found: Compared) -> bool:
        """Its values may be held against each other."""
        return {"memory": found.memory_comparable, "time": found.times_comparable}.get(self.takes, True)


AXES: dict[Cost, CostAxis] = {
    "memory": CostAxis(
        "peak_bytes",
        marked("peak memory"),
        memory,
        lambda most: (GIB, "GiB") if most >= 10 * GIB else (MIB, "MiB"),
        "memory",
    ),
    "time": CostAxis(
        "train_seconds",
        marked("train time"),
        duration,
        lambda most: (1.0, "s") if most < 600 else (60.0, "min") if most < 36_000 else (3600.0, "h"),
        "time",
    ),
    "parameters": CostAxis(
        "trainable_parameters",
        marked("trainable parameters"),
        lambda value: short_count(round(value)),
        lambda most: (1e6, "M") if most >= 1e6 else (1.0, ""),
        "",
    ),
    "file": CostAxis(
        "file_bytes",
        marked("file size"),
        file_size,
        lambda most: (MIB, "MiB") if most >= MIB else (KIB, "KiB"),
        "",
    ),
}


def front(found: Compared, cost: Cost) -> list[ComparedArm]:
    """The arms that no other beats on both score and cost, cheapest first; none where either does not compare, or there
    is nothing to beat."""
    axis = AXES[cost]
    arms = [arm for arm in found.arms if arm.score and axis.field in arm.costs]
    if len(arms) < 2 or not found.scores_comparable or not axis.comparable(found):
        return []
    points = [{"score": arm.score.mean if arm.score else None, "cost": arm.costs[axis.field].mean} for arm in arms]
    on = pareto_front(points, {"score": Better.HIGHER, "cost": Better.LOWER})
    best = [arm for arm, is_on in zip(arms, on, strict=True) if is_on]
    return sorted(best, key=lambda arm: arm.costs[axis.field].mean)


def trade_off(found: Compared, cost: Cost) -> Figure:
    """The score over one cost."""
    axis, best = AXES[cost], front(found, cost)
    arms = [arm for arm in found.arms if arm.score and axis.field in arm.costs]
    data = TradeOff(
        points=tuple(
            _point(found, arm, axis, named=len(arms) <= 2 * MOST_NAMED or arm in best or arm.is_reference)
            for arm in arms
        ),
        missing=tuple(Missing(_style(arm), _lacks(arm, axis)) for arm in found.arms if arm not in arms)[:MOST_NAMED],
        front=tuple(place for place, arm in enumerate(arms) if arm in best),
        x=_across(arms, axis),
        y=Side(
            title=_("↑ %(metric)s, %%", metric=heading(found.metric)),
            higher=True,
            zero=False,
            least=0.0,
            most=100.0,
            span=4.0,
        ),
    )
    return Figure(
        name="trade-off",
        title=_title(found, axis, arms, best),
        label=capitalized(
            _("%(metric)s against %(cost)s, one point an arm", metric=title(found.metric), cost=_(axis.title))
        ),
        note=_note(found, axis, arms, best),
        data=data,
        draw=drawing.chart,
        widths=(1040, 356),
        table=_table(found, axis, best),
        empty="" if arms else _("No arm has both a score and %(cost)s.", cost=_(axis.title)),
    )


def _style(arm: ComparedArm, *, named: bool = True) -> MarkStyle:
    return MarkStyle(arm.title if named else "", arm.family, arm.hollow)


def _point(found: Compared, arm: ComparedArm, axis: CostAxis, *, named: bool) -> Point:
    own, spent = arm.score, arm.costs[axis.field]
    assert own is not None  # noqa: S101  (the caller styles)
    size, _unit = axis.units(max(a.costs[axis.field].high for a in found.arms if axis.field in a.costs))
    low, high = (own.mean if end is None else end for end in (own.low, own.high))
    return Point(
        _style(arm, named=named),
        f"{percent(own.mean)}, {axis.say(spent.mean)}",
        Reach(spent.mean / size, spent.low / size, spent.high / size),
        Reach(100 * own.mean, 100 * max(0.0, low), 100 * min(1.0, high)),
    )


def _across(arms: list[ComparedArm], axis: CostAxis) -> Side:
    spreads = [arm.costs[axis.field] for arm in arms]
    _size, unit = axis.units(max((spread.high for spread in spreads), default=1.0))
    name = capitalized(_(axis.title))
    lows = [spread.low for spread in spreads]
    return Side(
        title=f"{name}, {unit} →" if unit else f"{name} →",
        higher=False,
        zero=bool(lows) and min(lows) < HALF * max(lows),  # else most of the picture would be empty
        log=bool(lows) and min(lows) > 0 and max(lows) > LOG * min(lows),
    )


def _lacks(arm: ComparedArm, axis: CostAxis) -> str:
    if arm.score is None:
        return failed(arm) or _("no result")
    return _("%(cost)s not known", cost=_(axis.title))


def _title(found: Compared, axis: CostAxis, arms: list[ComparedArm], best: list[ComparedArm]) -> str:
    words = {"metric": title(found.metric), "cost": _(axis.title)}
    if not best:
        alike = found.scores_comparable and axis.comparable(found)
        if alike or len(arms) < 2:
            return capitalized(_("%(metric)s against %(cost)s", **words))
        return capitalized(_("%(metric)s against %(cost)s: not measured alike, so nothing wins", **words))
    if len(best) <= MOST_NAMED:
        return _(
            "%(some)s of %(all)s arms are beaten by no other on both %(metric)s and %(cost)s: %(names)s",
            some=len(best),
            all=len(arms),
            names=join_names([arm.title for arm in best]),
            **words,
        )
    return _(
        "%(some)s of %(all)s arms are beaten by no other on both %(metric)s and %(cost)s",
        some=len(best),
        all=len(arms),
        **words,
    )


def _note(found: Compared, axis: CostAxis, arms: list[ComparedArm], best: list[ComparedArm]) -> str:
    parts = [
        _(
            "Whiskers: 95 %% interval of the %(metric)s, smallest to largest seed of the cost.",
            metric=title(found.metric),
        )
    ]
    if best:
        parts.append(_("Dashed: the front, by the means seen: chance is not in it, so it ranks nothing."))
    elif len(arms) > 1:
        if not found.scores_comparable:
            parts.append(_("No front: the scores are not of the same test items by the same metric."))
        if not axis.comparable(found):
            parts.append(_("No front: the cost was not measured under the same conditions."))
    return " ".join(parts)


def _table(found: Compared, axis: CostAxis, best: list[ComparedArm]) -> Table:
    say = partial(_shown, axis.say)
    columns = (
        Column("arm", _("arm")),
        Column("score", title(found.metric), percent),
        Column("score_low", _("from"), percent),
        Column("score_high", _("to"), percent),
        Column(axis.field, _(axis.title), say),
        Column("seeds", _("seeds"), lambda n: str(n)),
        Column("front", _("beaten by none")),
    )
    rows: list[tuple[Cell, ...]] = []
    for arm in found.arms:
        own, spent = arm.score, arm.costs.get(axis.field)
        rows.append(
            (
                arm.title,
                *((own.mean, own.low, own.high) if own else (None, None, None)),
                _mean(spent),
                arm.seeds,
                _("yes") if arm in best else _("no") if best else NOTHING,
            )
        )
    return Table(columns, tuple(rows))


def _mean(spread: Spread | None) -> float | None:
    return spread.mean if spread else None


def _shown(say: Callable[[float], str], value: float | None) -> str:
    return NOTHING if value is None else say(value)
