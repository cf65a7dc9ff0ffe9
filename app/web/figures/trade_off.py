"""One axis over another: the benefit of each arm, its cost, and which arms are Pareto-optimal."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from app.domain.comparison.pareto import Better, pareto_front
from app.domain.comparison.study import StudyArm, StudyComparison
from app.domain.comparison.verdict import VerdictKind
from app.web.figures.axes import AXES, Axis
from app.web.figures.drawing import trade_off as drawing
from app.web.figures.drawing.scales import Reach, Side
from app.web.figures.drawing.theme import MarkStyle
from app.web.figures.drawing.trade_off import Missing, Point, TradeOff
from app.web.figures.figure import Cell, Column, Figure, Table
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

    study: StudyComparison
    x: Axis
    y: Axis
    arms: tuple[StudyArm, ...]

    @classmethod
    def of(cls, study: StudyComparison, view: ViewParams) -> "Pair":
        """The axes that the view names."""
        x, y = AXES[view.x], AXES[view.y]
        return cls(study, x, y, tuple(arm for arm in study.arms if x.spread(arm) and y.spread(arm)))

    @property
    def comparable(self) -> bool:
        """The values of different arms are comparable."""
        return self.x.comparable(self.study) and self.y.comparable(self.study)

    @property
    def front(self) -> list[StudyArm]:
        """The Pareto-optimal arms, by their means; none where there is nothing to compare."""
        return self.pareto_optimal((self.x, self.y)) if self.comparable and len(self.arms) > 1 else []

    def pareto_optimal(self, axes: Sequence[Axis]) -> list[StudyArm]:
        """The arms that are Pareto-optimal on some axes."""
        points = [{a.column: spread.mean for a in axes if (spread := a.spread(arm))} for arm in self.arms]
        front = pareto_front(points, {axis.column: axis.better for axis in axes})
        return [arm for arm, on in zip(self.arms, front, strict=True) if on]

    @property
    def words(self) -> dict[str, str]:
        """The names of both axes."""
        return {"x": self.x.title(self.study), "y": self.y.title(self.study)}


def trade_off(study: StudyComparison, view: ViewParams) -> Figure:
    """Over the two axes that the view names."""
    pair = Pair.of(study, view)
    front = pair.front
    data = TradeOff(
        points=tuple(_points(pair)),
        missing=tuple(_missing(pair)),
        front=tuple(i for i, arm in enumerate(pair.arms) if arm in front),
        x=_side(pair, pair.x, "%(title)s, %(unit)s →"),
        y=_side(pair, pair.y, "↑ %(title)s, %(unit)s"),
        base=100 * study.base_score.mean if study.base_score and view.y == "score" else None,
    )
    return Figure(
        name="trade-off",
        title=_title(pair, front),
        label=capitalized(_("%(y)s by %(x)s, one point per arm", **pair.words)),
        note=_note(pair, front, data) if pair.arms else "",
        data=data,
        draw=drawing.chart,
        table=_table(pair, front),
        empty=_empty(pair, view),
    )


def _empty(pair: Pair, view: ViewParams) -> str:
    if view.x == view.y:
        return _("Both axes are %(x)s: choose two different ones.", **pair.words)
    if pair.arms:
        return ""
    scored = any(arm.score for arm in pair.study.arms)
    return _("No arm has both %(x)s and %(y)s.", **pair.words) if scored else _("No run has a result yet.")


def _reach(pair: Pair, axis: Axis, arm: StudyArm) -> Reach:
    size, _unit = _units(pair, axis)
    spread = axis.spread(arm)
    assert spread is not None  # noqa: S101  (arms of a pair have both)
    return Reach(spread.mean / size, spread.low / size, spread.high / size)


def _units(pair: Pair, axis: Axis) -> tuple[float, str]:
    return axis.units(pair.study, max((s.high for arm in pair.arms if (s := axis.spread(arm))), default=1.0))


def _side(pair: Pair, axis: Axis, text: str) -> Side:
    _size, unit = _units(pair, axis)
    title = capitalized(axis.title(pair.study))
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
            MarkStyle.of(arm),
            ", ".join(axis.say(spread.mean) for axis in (pair.y, pair.x) if (spread := axis.spread(arm))),
            _reach(pair, pair.x, arm),
            _reach(pair, pair.y, arm),
        )
        for arm in pair.arms
    ]


def _missing(pair: Pair) -> list[Missing]:
    """Arms that ended without a result, and those that have one without a value on an axis."""
    missing = []
    for arm in pair.study.arms:
        if arm in pair.arms:
            continue
        if arm.over:
            missing.append(Missing(MarkStyle.of(arm), no_result_label(arm)))
        elif arm.score:
            lacks = [axis.title(pair.study) for axis in (pair.x, pair.y) if not axis.spread(arm)]
            missing.append(Missing(MarkStyle.of(arm), _("%(axes)s not measured", axes=join_names(lacks))))
    return missing


def _title(pair: Pair, front: Sequence[StudyArm]) -> str:
    """About the arms on the front; no more than the verdict says."""
    if not pair.comparable:
        return capitalized(_("%(y)s by %(x)s: not measured under the same conditions, so no arm wins", **pair.words))
    if len(pair.arms) < 2:
        return capitalized(_("%(y)s by %(x)s", **pair.words))
    if len(front) == 1 and _distinguishable(pair, front[0]):
        return capitalized(_("%(arm)s is best on both %(y)s and %(x)s", arm=arm_name(front[0]), **pair.words))
    arm, score = pair.study.focus, AXES["score"]
    cost = pair.x if pair.y is score else pair.y
    scored = score in (pair.x, pair.y) and cost.is_cost and pair.study.reference in pair.arms
    if scored and arm is not None and arm in front:
        return _trade(pair.study, arm, cost)
    if score in (pair.x, pair.y):
        return capitalized(_cheapest_of_the_best(pair, cost))
    if len(front) <= MOST_NAMED:
        names = join_names([arm_name(arm) for arm in front])
        return capitalized(_("%(arms)s: Pareto-optimal in %(y)s and %(x)s", arms=names, **pair.words))
    return _(
        "%(some)s of %(all)s arms are Pareto-optimal in %(y)s and %(x)s",
        some=len(front),
        all=len(pair.arms),
        **pair.words,
    )


def _cheapest_of_the_best(pair: Pair, cost: Axis) -> str:
    """A front over scores is one of means, which include chance: the sentence names what is distinguishable."""
    best = [
        (spread.mean, arm) for arm in pair.arms if arm.title in pair.study.best_scores and (spread := cost.spread(arm))
    ]
    if not best or not cost.is_cost:
        return _("%(y)s by %(x)s", **pair.words)
    paid, arm = min(best, key=lambda one: one[0])
    values = {
        "arm": arm_name(arm),
        "metric": AXES["score"].title(pair.study),
        "cost": cost.title(pair.study),
        "paid": cost.say(paid),
    }
    if len(best) == 1:
        return _("%(arm)s has the best %(metric)s, significantly; its %(cost)s: %(paid)s", **values)
    return _(
        "of the arms indistinguishable from the best in %(metric)s, %(arm)s has the lowest %(cost)s: %(paid)s", **values
    )


def _distinguishable(pair: Pair, arm: StudyArm) -> bool:
    """Its score differs significantly from all others, where a score is on an axis: costs are measured."""
    return AXES["score"] not in (pair.x, pair.y) or pair.study.best_scores == {arm.title}


def _trade(study: StudyComparison, arm: StudyArm, cost: Axis) -> str:
    """What an arm reaches for its cost."""
    own, theirs = cost.spread(arm), cost.spread(study.reference)
    assert own is not None and theirs is not None  # noqa: S101  (the caller checks)
    cheaper = own.mean < theirs.mean
    values = {
        "arm": arm_name(arm),
        "reference": arm_name(study.reference),
        "own": cost.say(own.mean),
        "its": cost.say(theirs.mean),
    }
    match arm.verdict_kind:
        case VerdictKind.WITHIN if cheaper:
            text = _("%(reference)s needs %(its)s for what %(arm)s reaches with %(own)s", **values)
        case VerdictKind.BETTER if cheaper:
            text = _("%(arm)s is better with %(own)s than %(reference)s with %(its)s", **values)
        case VerdictKind.WORSE if cheaper:
            text = _("%(arm)s needs %(own)s instead of %(its)s, and loses %(by)s", by=gap_text(arm), **values)
        case VerdictKind.UNDECIDED | VerdictKind.HINT if cheaper:
            text = _(
                "%(arm)s needs %(own)s instead of %(its)s; whether it stays within %(margin)s is undecided",
                margin=margin_text(study),
                **values,
            )
        case _:
            text = _("%(arm)s needs %(own)s, %(reference)s %(its)s", **values)
    return capitalized(text)


def _note(pair: Pair, front: Sequence[StudyArm], data: TradeOff) -> str:
    counts = [arm.score.seeds for arm in pair.arms if arm.score]
    items = ngettext("%(num)s test item", "%(num)s test items", pair.study.items or 0)
    runs = _("Mean of %(seeds)s", seeds=seed_range(counts)) if max(counts) > 1 else _("One seed")
    parts = [_("%(runs)s, %(items)s.", runs=runs, items=items), _whiskers(pair)]
    if front:
        names = join_names([arm.title for arm in front])
        if AXES["score"] in (pair.x, pair.y):
            text = _(
                "Dashed: Pareto front of the observed means: %(arms)s. It ignores sampling error, so it ranks nothing.",
                arms=names,
            )
            parts.append(text)
        else:
            parts.append(_("Dashed: Pareto front of the means: %(arms)s.", arms=names))
        parts.append(_with_third(pair, front))
    up = _("up") if data.y.higher else _("down")
    parts.append(_("Better: %(up)s and to the %(side)s.", up=up, side=_("right") if data.x.higher else _("left")))
    if data.x.log or data.y.log:
        parts.append(_("Axes are logarithmic where values differ by more than a factor of ten."))
    return " ".join(part for part in parts if part)


def _whiskers(pair: Pair) -> str:
    """What they are; an arm's own interval is not that of its difference."""
    if AXES["score"] not in (pair.x, pair.y):
        return _("Whiskers: smallest to largest seed.")
    metric = AXES["score"].title(pair.study)
    text = _("Whiskers: 95 %% interval of %(metric)s; smallest to largest seed for the rest.", metric=metric)
    if len(pair.arms) > 1:
        text += " " + _("Whether two arms differ is decided by the interval of their difference, not by these.")
    return text


def _with_third(pair: Pair, front: Sequence[StudyArm]) -> str:
    """Which arms join the front with a third axis."""
    third = next(AXES[name] for name in THIRD if AXES[name] not in (pair.x, pair.y))
    if len(front) == len(pair.arms) or not third.comparable(pair.study) or not all(map(third.spread, pair.arms)):
        return ""
    joined = [arm.title for arm in pair.pareto_optimal((pair.x, pair.y, third)) if arm not in front]
    name = third.title(pair.study)
    if not joined:
        return _("With %(third)s as a third axis no other arm joins.", third=name)
    return _("With %(third)s as a third axis these join: %(arms)s.", third=name, arms=join_names(joined))


def _table(pair: Pair, front: Sequence[StudyArm]) -> Table:
    columns = [Column("arm", _("arm"))]
    for axis in (pair.y, pair.x):
        show = partial(_shown, axis)
        columns += [
            Column(axis.column, axis.title(pair.study), show),
            Column(f"{axis.column}_low", _("from"), show),
            Column(f"{axis.column}_high", _("to"), show),
        ]
    columns.append(Column("front", _("Pareto-optimal")))
    rows: list[tuple[Cell, ...]] = []
    for arm in pair.study.arms:
        spreads = [axis.spread(arm) for axis in (pair.y, pair.x)]
        ends = [end for s in spreads for end in ((s.mean, s.low, s.high) if s else (None,) * 3)]
        rows.append((arm.title, *ends, _("yes") if arm in front else _("no") if front else NOTHING))
    return Table(tuple(columns), tuple(rows))


def _shown(axis: Axis, value: float | None) -> str:
    return NOTHING if value is None else axis.say(value)
