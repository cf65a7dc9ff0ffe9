"""One axis over another: what one gets for what one pays, and which arms no other beats on both."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from app.domain.comparison.costs import Spread
from app.domain.comparison.pareto import Better, pareto_front
from app.domain.comparison.study import StudyArm, StudyComparison
from app.domain.comparison.verdict import VerdictKind
from app.web.figures.axes import AXES, Axis
from app.web.figures.drawing import trade_off as drawing
from app.web.figures.drawing.trade_off import Missing, Point, Reach, Side, TradeOff
from app.web.figures.figure import Cell, Column, Figure, Table
from app.web.figures.verdict import mark_style
from app.web.figures.view import ViewParams
from app.web.format import NOTHING, capitalized, join_names
from app.web.i18n import gettext as _
from app.web.i18n import ngettext
from app.web.text.verdict import arm_name, gap_text, margin_text, no_result_label, seed_range

THIRD = ("score", "memory", "time")
"""What may count besides the two axes: the first of these that is neither."""
MOST_NAMED = 4
"""A sentence names at most so many arms."""
LOG = 10.0
"""An axis whose largest value is more than so many times its smallest is logarithmic."""


@dataclass(frozen=True)
class Pair:
    """The two axes of a study, and the arms that have a value on both."""

    found: StudyComparison
    x: Axis
    y: Axis
    arms: tuple[StudyArm, ...]

    @classmethod
    def of(cls, found: StudyComparison, view: ViewParams) -> "Pair":
        """As the address asks."""
        x, y = AXES[view.x], AXES[view.y]
        return cls(found, x, y, tuple(arm for arm in found.arms if x.spread(arm) and y.spread(arm)))

    @property
    def comparable(self) -> bool:
        """The values of different arms may be held against each other."""
        return self.x.comparable(self.found) and self.y.comparable(self.found)

    @property
    def front(self) -> list[StudyArm]:
        """The arms that no other beats on both, by their means; none where there is nothing to beat."""
        return self.unbeaten((self.x, self.y)) if self.comparable and len(self.arms) > 1 else []

    def unbeaten(self, axes: Sequence[Axis]) -> list[StudyArm]:
        """The arms that no other beats on all of some axes."""
        points = [{a.column: spread.mean for a in axes if (spread := a.spread(arm))} for arm in self.arms]
        front = pareto_front(points, {axis.column: axis.better for axis in axes})
        return [arm for arm, on in zip(self.arms, front, strict=True) if on]

    @property
    def words(self) -> dict[str, str]:
        """The names of both."""
        return {"x": self.x.title(self.found), "y": self.y.title(self.found)}


def trade_off(found: StudyComparison, view: ViewParams) -> Figure:
    """Over the two axes that one asked for."""
    pair = Pair.of(found, view)
    front = pair.front
    data = TradeOff(
        points=tuple(_points(pair)),
        missing=tuple(_missing(pair)),
        front=tuple(i for i, arm in enumerate(pair.arms) if arm in front),
        x=_side(pair, pair.x, "%(title)s, %(unit)s →"),
        y=_side(pair, pair.y, "↑ %(title)s, %(unit)s"),
        untouched=100 * found.base_score.mean if found.base_score and view.y == "score" else None,
    )
    return Figure(
        name="trade-off",
        title=_title(pair, front),
        label=capitalized(_("%(y)s against %(x)s, one point an arm", **pair.words)),
        note=_note(pair, front, data) if pair.arms else "",
        data=data,
        draw=drawing.chart,
        widths=(556, 356),
        table=_table(pair, front),
        empty=_empty(pair, view),
    )


def _empty(pair: Pair, view: ViewParams) -> str:
    if view.x == view.y:
        return _("Both axes are %(x)s: choose two that differ.", **pair.words)
    if pair.arms:
        return ""
    scored = any(arm.score for arm in pair.found.arms)
    return _("No arm has both %(x)s and %(y)s.", **pair.words) if scored else _("No run has a result yet.")


def _reach(pair: Pair, axis: Axis, arm: StudyArm) -> Reach:
    size, _unit = _units(pair, axis)
    spread = axis.spread(arm)
    assert spread is not None  # noqa: S101  (arms of a pair have both)
    return Reach(spread.mean / size, spread.low / size, spread.high / size)


def _units(pair: Pair, axis: Axis) -> tuple[float, str]:
    return axis.units(pair.found, max((s.high for arm in pair.arms if (s := axis.spread(arm))), default=1.0))


def _side(pair: Pair, axis: Axis, text: str) -> Side:
    _size, unit = _units(pair, axis)
    title = capitalized(axis.title(pair.found))
    means = [spread.mean for arm in pair.arms if (spread := axis.spread(arm))]
    lows = [spread.low for arm in pair.arms if (spread := axis.spread(arm))]
    return Side(
        title=text % {"title": title, "unit": unit} if unit else text.replace(", %(unit)s", "") % {"title": title},
        higher=axis.better is Better.HIGHER,
        zero=axis.zero,
        log=axis.stretches and bool(means) and min(lows) > 0 and max(means) > LOG * min(means),
        least=0.0 if axis.most else None,
        most=axis.most,
        span=axis.span,
    )


def _points(pair: Pair) -> list[Point]:
    return [
        Point(
            mark_style(arm),
            ", ".join(axis.say(spread.mean) for axis in (pair.y, pair.x) if (spread := axis.spread(arm))),
            _reach(pair, pair.x, arm),
            _reach(pair, pair.y, arm),
        )
        for arm in pair.arms
    ]


def _missing(pair: Pair) -> list[Missing]:
    """Arms that ended without a result, and those that have one without a value on an axis."""
    found = []
    for arm in pair.found.arms:
        if arm in pair.arms:
            continue
        if arm.over:
            found.append(Missing(mark_style(arm), no_result_label(arm)))
        elif arm.score:
            lacks = [axis.title(pair.found) for axis in (pair.x, pair.y) if not axis.spread(arm)]
            found.append(Missing(mark_style(arm), _("%(axes)s not measured", axes=join_names(lacks))))
    return found


def _title(pair: Pair, front: Sequence[StudyArm]) -> str:
    """About the arms on the front; no more than the verdict says."""
    if not pair.comparable:
        return capitalized(
            _("%(y)s against %(x)s: not measured under the same conditions, so nothing wins", **pair.words)
        )
    if len(pair.arms) < 2:
        return capitalized(_("%(y)s against %(x)s", **pair.words))
    if len(front) == 1 and _told_apart(pair, front[0]):
        return capitalized(_("%(arm)s is best on both %(y)s and %(x)s", arm=arm_name(front[0]), **pair.words))
    arm, score = pair.found.focus, AXES["score"]
    cost = pair.x if pair.y is score else pair.y
    scored = score in (pair.x, pair.y) and cost.is_cost and pair.found.reference in pair.arms
    if scored and arm is not None and arm in front:
        return _trade(pair.found, arm, cost)
    if score in (pair.x, pair.y):
        return capitalized(_cheapest_of_the_best(pair, cost))
    if len(front) <= MOST_NAMED:
        names = join_names([arm_name(arm) for arm in front])
        return capitalized(_("no other arm beats %(arms)s on both %(y)s and %(x)s", arms=names, **pair.words))
    return _(
        "%(some)s of %(all)s arms are beaten by no other on both %(y)s and %(x)s",
        some=len(front),
        all=len(pair.arms),
        **pair.words,
    )


def _cheapest_of_the_best(pair: Pair, cost: Axis) -> str:
    """A front over scores is one of means, which chance has moved: said is what is told apart, and what was paid."""
    best = [
        (spread.mean, arm) for arm in pair.arms if arm.title in pair.found.best_scores and (spread := cost.spread(arm))
    ]
    if not best or not cost.is_cost:
        return _("%(y)s against %(x)s", **pair.words)
    paid, arm = min(best, key=lambda one: one[0])
    values = {
        "arm": arm_name(arm),
        "metric": AXES["score"].title(pair.found),
        "cost": cost.title(pair.found),
        "paid": cost.say(paid),
    }
    if len(best) == 1:
        return _("%(arm)s is told apart as the best in %(metric)s; its %(cost)s: %(paid)s", **values)
    return _(
        "of the arms not told apart from the best in %(metric)s none has less %(cost)s than %(arm)s: %(paid)s", **values
    )


def _told_apart(pair: Pair, arm: StudyArm) -> bool:
    """Its score is told apart from all others, as far as a score is looked at: costs are what was measured."""
    return AXES["score"] not in (pair.x, pair.y) or pair.found.best_scores == {arm.title}


def _trade(found: StudyComparison, arm: StudyArm, cost: Axis) -> str:
    """What one gets for what one pays."""
    own, its = cost.spread(arm), cost.spread(found.reference)
    assert own is not None and its is not None  # noqa: S101  (the caller styles)
    cheaper = own.mean < its.mean
    values = {
        "arm": arm_name(arm),
        "reference": arm_name(found.reference),
        "own": cost.say(own.mean),
        "its": cost.say(its.mean),
    }
    match arm.verdict_kind:
        case VerdictKind.WITHIN if cheaper:
            text = _("%(reference)s takes %(its)s for what %(arm)s reaches with %(own)s", **values)
        case VerdictKind.BETTER if cheaper:
            text = _("%(arm)s is better with %(own)s than %(reference)s with %(its)s", **values)
        case VerdictKind.WORSE if cheaper:
            text = _("%(arm)s takes %(own)s instead of %(its)s, and loses %(by)s", by=gap_text(arm), **values)
        case VerdictKind.UNDECIDED | VerdictKind.HINT if cheaper:
            text = _(
                "%(arm)s takes %(own)s instead of %(its)s; whether it stays within %(margin)s is undecided",
                margin=margin_text(found),
                **values,
            )
        case _:
            text = _("%(arm)s takes %(own)s, %(reference)s %(its)s", **values)
    return capitalized(text)


def _note(pair: Pair, front: Sequence[StudyArm], data: TradeOff) -> str:
    counts = [arm.score.seeds for arm in pair.arms if arm.score]
    items = ngettext("%(num)s test item", "%(num)s test items", pair.found.items or 0)
    runs = _("Mean of %(seeds)s", seeds=seed_range(counts)) if max(counts) > 1 else _("One seed")
    parts = [_("%(runs)s, %(items)s.", runs=runs, items=items), _whiskers(pair)]
    if front:
        names = join_names([arm.title for arm in front])
        if AXES["score"] in (pair.x, pair.y):
            text = _(
                "Dashed: the front, by the means seen: %(arms)s. Chance is not in it, so it ranks nothing.", arms=names
            )
            parts.append(text)
        else:
            parts.append(_("Dashed: what no other arm beats on both, by the means: %(arms)s.", arms=names))
        parts.append(_with_third(pair, front))
    up = _("up") if data.y.higher else _("down")
    parts.append(_("Better: %(up)s and to the %(side)s.", up=up, side=_("right") if data.x.higher else _("left")))
    if data.x.log or data.y.log:
        parts.append(_("A scale is logarithmic where its values lie more than ten times apart."))
    return " ".join(part for part in parts if part)


def _whiskers(pair: Pair) -> str:
    """What they are; an arm's own interval is not that of its difference."""
    if AXES["score"] not in (pair.x, pair.y):
        return _("Whiskers: smallest to largest seed.")
    metric = AXES["score"].title(pair.found)
    text = _("Whiskers: 95 %% interval of the %(metric)s, smallest to largest seed of the rest.", metric=metric)
    if len(pair.arms) > 1:
        text += " " + _("Whether two arms differ is told by the interval of their difference, not by these.")
    return text


def _with_third(pair: Pair, front: Sequence[StudyArm]) -> str:
    """Which arms join the front if another axis counts too."""
    third = next(AXES[name] for name in THIRD if AXES[name] not in (pair.x, pair.y))
    if len(front) == len(pair.arms) or not third.comparable(pair.found) or not all(map(third.spread, pair.arms)):
        return ""
    joined = [arm.title for arm in pair.unbeaten((pair.x, pair.y, third)) if arm not in front]
    name = third.title(pair.found)
    if not joined:
        return _("None joins them when %(third)s counts too.", third=name)
    return _("On the front also when %(third)s counts too: %(arms)s.", third=name, arms=join_names(joined))


def _table(pair: Pair, front: Sequence[StudyArm]) -> Table:
    columns = [Column("arm", _("arm"))]
    for axis in (pair.y, pair.x):
        show = partial(_shown, axis)
        columns += [
            Column(axis.column, axis.title(pair.found), show),
            Column(f"{axis.column}_low", _("from"), show),
            Column(f"{axis.column}_high", _("to"), show),
        ]
    columns.append(Column("front", _("beaten by none")))
    rows: list[tuple[Cell, ...]] = []
    for arm in pair.found.arms:
        ends = [end for axis in (pair.y, pair.x) for end in _ends(axis.spread(arm))]
        rows.append((arm.title, *ends, _("yes") if arm in front else _("no") if front else NOTHING))
    return Table(tuple(columns), tuple(rows))


def _shown(axis: Axis, value: float | None) -> str:
    return NOTHING if value is None else axis.say(value)


def _ends(spread: Spread | None) -> tuple[float | None, float | None, float | None]:
    return (spread.mean, spread.low, spread.high) if spread else (None, None, None)
