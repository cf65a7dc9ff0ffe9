"""One axis over another: the benefit of each arm, its cost, and which arms are Pareto-optimal."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial

from app.domain.comparison.costs.pareto import Better, pareto_front
from app.domain.comparison.model import AnyComparison, ArmResult
from app.domain.comparison.statistics.verdict import VerdictKind
from app.domain.comparison.study import StudyComparison
from app.web.figures.drawing import trade_off as drawing
from app.web.figures.drawing.axes import AXES, Axis
from app.web.figures.drawing.reference_rows import lines_note, references, shows_base
from app.web.figures.drawing.scales import Reach, Side
from app.web.figures.drawing.theme import MarkStyle
from app.web.figures.drawing.trade_off import Missing, Point, TradeOff
from app.web.figures.figure import WIDTHS, Cell, Column, Figure, Table
from app.words.format import NOTHING, capitalized, count, join_names
from app.words.i18n import gettext as _
from app.words.i18n import ngettext
from app.words.verdict.verdict import arm_name, gap_text, margin_text, no_result_label, seed_range

THIRD = ("score", "memory", "time")
"""What may count besides the two axes: the first of these that is neither."""
MOST_NAMED = 8
"""A sentence names at most so many arms; so many arms without a value are drawn, and twice as many have labels."""
LOG = 10.0
"""An axis whose largest value is more than so many times its smallest is logarithmic."""
FROM_ZERO = 0.5
"""An axis begins at zero if its smallest value is below this share of the largest: else most of it would be empty."""


@dataclass(frozen=True)
class Pair:
    """The two axes of a comparison, and the arms that have a value on both."""

    comparison: AnyComparison
    x: Axis
    y: Axis

    @cached_property
    def arms(self) -> list[ArmResult]:
        """Those with a value on both axes."""
        return [arm for arm in self.comparison.arms if self.x.spread(arm) and self.y.spread(arm)]

    @property
    def comparable(self) -> bool:
        """The values of different arms are comparable."""
        return self.x.comparable(self.comparison) and self.y.comparable(self.comparison)

    @cached_property
    def front(self) -> list[ArmResult]:
        """The Pareto-optimal arms, by their means; none where there is nothing to compare."""
        return self.pareto_optimal((self.x, self.y)) if self.comparable and len(self.arms) > 1 else []

    def pareto_optimal(self, axes: Sequence[Axis]) -> list[ArmResult]:
        """The arms that are Pareto-optimal on some axes."""
        points = [{a.column: spread.mean for a in axes if (spread := a.spread(arm))} for arm in self.arms]
        front = pareto_front(points, {axis.column: axis.better for axis in axes})
        return [arm for arm, on in zip(self.arms, front, strict=True) if on]

    @property
    def words(self) -> dict[str, str]:
        return {"x": self.x.title(self.comparison), "y": self.y.title(self.comparison)}


def trade_off(comparison: AnyComparison, x: str, y: str, widths: tuple[int, int] = WIDTHS) -> Figure:
    """Over two axes by their names in AXES: of a study, or of any runs."""
    pair = Pair(comparison, AXES[x], AXES[y])
    front, base = pair.front, comparison.base_score if isinstance(comparison, StudyComparison) else None
    data = TradeOff(
        points=tuple(_points(pair, front)),
        missing=tuple(_missing(pair)[:MOST_NAMED]),
        front=tuple(i for i, arm in enumerate(pair.arms) if arm in front),
        x=_side(pair, pair.x, "%(title)s, %(unit)s →"),
        y=_side(pair, pair.y, "↑ %(title)s, %(unit)s"),
        base=100 * base.mean if base and y == "score" and not shows_base(comparison) else None,
        lines=references(comparison) if y == "score" else (),
    )
    return Figure(
        name="trade-off",
        title=_title(pair, front),
        label=capitalized(_("%(y)s by %(x)s, one point per arm", **pair.words)),
        note=_note(pair, front, data) if pair.arms else "",
        data=data,
        draw=drawing.chart,
        table=_table(pair, front),
        widths=widths,
        empty=_empty(pair),
    )


def _empty(pair: Pair) -> str:
    if pair.x is pair.y:
        return _("Both axes are %(x)s: choose two different ones.", **pair.words)
    if pair.arms:
        return ""
    scored = any(arm.score for arm in pair.comparison.arms)
    return _("No arm has both %(x)s and %(y)s.", **pair.words) if scored else _("No run has a result yet.")


def _units(pair: Pair, axis: Axis) -> tuple[float, str]:
    return axis.units(pair.comparison, max((s.high for arm in pair.arms if (s := axis.spread(arm))), default=1.0))


def _side(pair: Pair, axis: Axis, text: str) -> Side:
    _size, unit = _units(pair, axis)
    title = capitalized(axis.title(pair.comparison))
    spreads = [spread for arm in pair.arms if (spread := axis.spread(arm))]
    lows, means = [spread.low for spread in spreads] or [0.0], [spread.mean for spread in spreads] or [0.0]
    return Side(
        title=text % {"title": title, "unit": unit} if unit else text.replace(", %(unit)s", "") % {"title": title},
        higher=axis.better is Better.HIGHER,
        zero=axis.zero and min(lows) < FROM_ZERO * max(means),
        log=axis.stretches and min(lows) > 0 and max(means) > LOG * min(means),
        least=0.0 if axis.most else None,
        most=axis.most,
        span=axis.span,
    )


def _points(pair: Pair, front: Sequence[ArmResult]) -> list[Point]:
    every = len(pair.arms) <= 2 * MOST_NAMED
    (x_size, _x), (y_size, _y) = _units(pair, pair.x), _units(pair, pair.y)
    points = []
    for arm in pair.arms:
        x, y = pair.x.spread(arm), pair.y.spread(arm)
        if x and y:
            style = MarkStyle.of(arm, named=every or arm in front or arm.is_reference)
            note = f"{pair.y.say(y.mean)}, {pair.x.say(x.mean)}"
            points.append(Point(style, note, Reach.of(x, x_size), Reach.of(y, y_size)))
    return points


def _missing(pair: Pair) -> list[Missing]:
    """Arms that ended without a result, and those that have one without a value on an axis."""
    missing = []
    for arm in pair.comparison.arms:
        if arm in pair.arms:
            continue
        if arm.over:
            missing.append(Missing(MarkStyle.of(arm), no_result_label(arm)))
        elif arm.score:
            lacks = [axis.title(pair.comparison) for axis in (pair.x, pair.y) if not axis.spread(arm)]
            missing.append(Missing(MarkStyle.of(arm), _("%(axes)s not measured", axes=join_names(lacks))))
    return missing


def _title(pair: Pair, front: Sequence[ArmResult]) -> str:
    """About the arms on the front; no more than the verdict says."""
    if not pair.comparable:
        return capitalized(_("%(y)s by %(x)s: not measured under the same conditions, so no arm wins", **pair.words))
    if len(pair.arms) < 2:
        return capitalized(_("%(y)s by %(x)s", **pair.words))
    if len(front) == 1 and _distinguishable(pair, front[0]):
        return capitalized(_("%(arm)s is best on both %(y)s and %(x)s", arm=arm_name(front[0]), **pair.words))
    study, score = pair.comparison, AXES["score"]
    if isinstance(study, StudyComparison) and score in (pair.x, pair.y):
        cost = pair.x if pair.y is score else pair.y
        arm = study.focus
        if cost.is_cost and study.reference in pair.arms and arm is not None and arm in front:
            return _trade(study, arm, cost)
        return capitalized(_cheapest_of_the_best(pair, study, cost))
    values = {"some": len(front), "all": len(pair.arms), **pair.words}
    text = _("%(some)s of %(all)s arms are Pareto-optimal in %(y)s and %(x)s", **values)
    return f"{text}: {join_names([arm.title for arm in front])}" if len(front) <= MOST_NAMED else text


def _cheapest_of_the_best(pair: Pair, study: StudyComparison, cost: Axis) -> str:
    """A front over scores is one of means, which include chance: the sentence names what is distinguishable."""
    best = [(spread.mean, arm) for arm in pair.arms if arm.title in study.best_scores and (spread := cost.spread(arm))]
    if not best or not cost.is_cost:
        return _("%(y)s by %(x)s", **pair.words)
    paid, arm = min(best, key=lambda entry: entry[0])
    values = {
        "arm": arm_name(arm),
        "metric": AXES["score"].title(study),
        "cost": cost.title(study),
        "paid": cost.say(paid),
    }
    if len(best) == 1:
        return _("%(arm)s has the best %(metric)s, significantly; its %(cost)s: %(paid)s", **values)
    return _(
        "of the arms indistinguishable from the best in %(metric)s, %(arm)s has the lowest %(cost)s: %(paid)s", **values
    )


def _distinguishable(pair: Pair, arm: ArmResult) -> bool:
    """Its score differs significantly from all others, where a score is on an axis: costs are measured."""
    if AXES["score"] not in (pair.x, pair.y):
        return True
    return isinstance(pair.comparison, StudyComparison) and pair.comparison.best_scores == {arm.title}


def _trade(study: StudyComparison, arm: ArmResult, cost: Axis) -> str:
    """What an arm reaches for its cost."""
    own, reference = cost.spread(arm), cost.spread(study.reference)
    assert own is not None and reference is not None  # noqa: S101  (the caller checks)
    cheaper = own.mean < reference.mean
    values = {
        "arm": arm_name(arm),
        "reference": arm_name(study.reference),
        "cost": cost.say(own.mean),
        "reference_cost": cost.say(reference.mean),
    }
    match arm.verdict_kind:
        case _ if arm.verdict and arm.verdict.better and cheaper:
            text = _("%(arm)s is better with %(cost)s than %(reference)s with %(reference_cost)s", **values)
        case VerdictKind.ENOUGH if cheaper:
            text = _("%(arm)s is enough with %(cost)s instead of %(reference_cost)s", **values)
        case VerdictKind.WITHIN if cheaper:
            text = _("%(reference)s needs %(reference_cost)s for what %(arm)s reaches with %(cost)s", **values)
        case VerdictKind.WORSE if cheaper:
            text = _(
                "%(arm)s needs %(cost)s instead of %(reference_cost)s, and loses %(by)s", by=gap_text(arm), **values
            )
        case VerdictKind.UNDECIDED | VerdictKind.HINT if cheaper and not study.alternative.two_sided:
            text = _(
                "%(arm)s needs %(cost)s instead of %(reference_cost)s; whether it loses less than %(margin)s is "
                "undecided",
                margin=margin_text(study),
                **values,
            )
        case VerdictKind.UNDECIDED | VerdictKind.HINT if cheaper:
            text = _(
                "%(arm)s needs %(cost)s instead of %(reference_cost)s; whether it stays within %(margin)s is undecided",
                margin=margin_text(study),
                **values,
            )
        case _:
            text = _("%(arm)s needs %(cost)s, %(reference)s %(reference_cost)s", **values)
    return capitalized(text)


def _note(pair: Pair, front: Sequence[ArmResult], data: TradeOff) -> str:
    scores = [arm.score for arm in pair.arms if arm.score]
    counts, items = [score.seeds for score in scores], {score.items for score in scores}
    parts = [_("Mean of %(seeds)s", seeds=seed_range(counts)) if max(counts, default=1) > 1 else _("One seed")]
    if len(items) == 1 and (number := items.pop()):
        parts.append(ngettext("%(num)s test item", "%(num)s test items", number))
    parts = [f"{', '.join(parts)}.", _whiskers(pair)]
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
    elif len(pair.arms) > 1:
        axes = [axis.title(pair.comparison) for axis in (pair.y, pair.x) if not axis.comparable(pair.comparison)]
        parts.append(_("No front: not comparable in %(axes)s.", axes=join_names(axes)))
    up, side = _("up") if data.y.higher else _("down"), _("right") if data.x.higher else _("left")
    parts += [lines_note(data.lines), _("Better: %(up)s and to the %(side)s.", up=up, side=side)]
    if data.x.log or data.y.log:
        parts.append(_("Axes are logarithmic where values differ by more than a factor of ten."))
    return " ".join(part for part in parts if part)


def _whiskers(pair: Pair) -> str:
    """What they are; an arm's own interval is not that of its difference."""
    if AXES["score"] not in (pair.x, pair.y):
        return _("Whiskers: smallest to largest seed.")
    metric = AXES["score"].title(pair.comparison)
    text = _("Whiskers: 95 %% interval of %(metric)s; smallest to largest seed for the rest.", metric=metric)
    if len(pair.arms) > 1:
        text += " " + _("Whether two arms differ is decided by the interval of their difference, not by these.")
    return text


def _with_third(pair: Pair, front: Sequence[ArmResult]) -> str:
    """Which arms join the front with a third axis."""
    third = next(AXES[name] for name in THIRD if AXES[name] not in (pair.x, pair.y))
    if len(front) == len(pair.arms) or not third.comparable(pair.comparison) or not all(map(third.spread, pair.arms)):
        return ""
    joined = [arm.title for arm in pair.pareto_optimal((pair.x, pair.y, third)) if arm not in front]
    name = third.title(pair.comparison)
    if not joined:
        return _("With %(third)s as a third axis no other arm joins.", third=name)
    return _("With %(third)s as a third axis these join: %(arms)s.", third=name, arms=join_names(joined))


def _table(pair: Pair, front: Sequence[ArmResult]) -> Table:
    columns = [Column("arm", _("arm"))]
    for axis in (pair.y, pair.x):
        show = partial(_shown, axis)
        columns += [
            Column(axis.column, axis.title(pair.comparison), show),
            Column(f"{axis.column}_low", _("from"), show),
            Column(f"{axis.column}_high", _("to"), show),
        ]
    columns += [Column("seeds", _("seeds"), count), Column("front", _("Pareto-optimal"))]
    rows: list[tuple[Cell, ...]] = []
    for arm in pair.comparison.arms:
        ends: list[Cell] = []
        for axis in (pair.y, pair.x):
            spread, known = axis.spread(arm), axis is not AXES["score"] or (arm.score and arm.score.usable)
            ends += [spread.mean, *((spread.low, spread.high) if known else (None, None))] if spread else [None] * 3
        seeds = arm.score.seeds if arm.score else 0
        rows.append((arm.title, *ends, seeds, _("yes") if arm in front else _("no") if front else NOTHING))
    return Table(tuple(columns), tuple(rows))


def _shown(axis: Axis, value: float | None) -> str:
    return NOTHING if value is None else axis.say(value)
