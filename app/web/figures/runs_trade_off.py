"""The trade-off of any runs: the score over one cost, and the Pareto-optimal arms."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from app.domain.comparison.costs import ArmCosts, Spread
from app.domain.comparison.intervals import ScoreInterval
from app.domain.comparison.pareto import Better, pareto_front
from app.domain.comparison.runs import RunArm, RunComparison
from app.web.figures.axes import memory_unit, time_unit
from app.web.figures.drawing import trade_off as drawing
from app.web.figures.drawing.scales import Reach, Side
from app.web.figures.drawing.theme import MarkStyle
from app.web.figures.drawing.trade_off import Missing, Point, TradeOff
from app.web.figures.figure import Cell, Column, Figure, Table
from app.web.figures.trade_off import LOG
from app.web.format import (
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
from app.web.text.failures import failure_label
from app.web.text.metrics import heading, title

Cost = Literal["memory", "time", "parameters", "file"]
COSTS: tuple[Cost, ...] = get_args(Cost)
HALF = 0.5
MOST_NAMED = 8
"""A sentence names at most so many arms."""


def _exact(value: int | None) -> Spread | None:
    return None if value is None else Spread(value, value, value)


@dataclass(frozen=True)
class CostAxis:
    """What an arm costs, as an axis."""

    field: str
    """In the CSV."""
    title: str
    """Within a sentence."""
    read: Callable[[ArmCosts], Spread | None]
    say: Callable[[float], str]
    units: Callable[[float], tuple[float, str]]
    """From the largest value to the axis's unit and its name."""
    comparable: Callable[[RunComparison], bool] = lambda comparison: True
    """Whether the values of different arms compare."""

    def of(self, arm: RunArm) -> Spread | None:
        """Over the seeds of an arm; None where it is unknown."""
        return self.read(arm.costs) if arm.costs else None


AXES: dict[Cost, CostAxis] = {
    "memory": CostAxis(
        "peak_bytes",
        marked("peak memory"),
        lambda costs: costs.peak_bytes,
        memory,
        memory_unit,
        lambda comparison: comparison.memory_comparable,
    ),
    "time": CostAxis(
        "train_seconds",
        marked("train time"),
        lambda costs: costs.train_seconds,
        duration,
        time_unit,
        lambda comparison: comparison.times_comparable,
    ),
    "parameters": CostAxis(
        "trainable_parameters",
        marked("trainable parameters"),
        lambda costs: _exact(costs.trainable_parameters),
        lambda value: short_count(round(value)),
        lambda most: (1e6, "M") if most >= 1e6 else (1.0, ""),
    ),
    "file": CostAxis(
        "artifact_bytes",
        marked("file size"),
        lambda costs: _exact(costs.artifact_bytes),
        file_size,
        lambda most: (MIB, "MiB") if most >= MIB else (KIB, "KiB"),
    ),
}


@dataclass(frozen=True)
class _Pair:
    """A comparison over one cost: the arms that have both a score and that cost."""

    comparison: RunComparison
    axis: CostAxis
    arms: tuple[tuple[RunArm, ScoreInterval, Spread], ...]

    @classmethod
    def of(cls, comparison: RunComparison, cost: Cost) -> "_Pair":
        axis = AXES[cost]
        arms = [
            (arm, arm.score, spread) for arm in comparison.arms if arm.score and (spread := axis.of(arm)) is not None
        ]
        return cls(comparison, axis, tuple(arms))

    @property
    def comparable(self) -> bool:
        return self.comparison.scores_comparable and self.axis.comparable(self.comparison)

    @property
    def front(self) -> list[RunArm]:
        """The Pareto-optimal arms, cheapest first; none where either axis does not compare, or for a single arm."""
        if len(self.arms) < 2 or not self.comparable:
            return []
        points = [{"score": score.mean, "cost": spread.mean} for _arm, score, spread in self.arms]
        optimal = pareto_front(points, {"score": Better.HIGHER, "cost": Better.LOWER})
        ordered = sorted(zip(self.arms, optimal, strict=True), key=lambda pair: pair[0][2].mean)
        return [arm for (arm, _score, _spread), is_optimal in ordered if is_optimal]

    @property
    def words(self) -> dict[str, str]:
        return {"metric": title(self.comparison.metric), "cost": _(self.axis.title)}


def trade_off(comparison: RunComparison, cost: Cost) -> Figure:
    """The score over one cost."""
    pair = _Pair.of(comparison, cost)
    front = pair.front
    named = len(pair.arms) <= 2 * MOST_NAMED
    arms = [arm for arm, _score, _spread in pair.arms]
    size, unit = pair.axis.units(max((spread.high for _arm, _score, spread in pair.arms), default=1.0))
    data = TradeOff(
        points=tuple(
            Point(
                _style(arm, named=named or arm in front or arm.is_reference),
                f"{percent(score.mean)}, {pair.axis.say(spread.mean)}",
                Reach(spread.mean / size, spread.low / size, spread.high / size),
                _score_reach(score),
            )
            for arm, score, spread in pair.arms
        ),
        missing=tuple(Missing(_style(arm), _lacks(arm, pair)) for arm in comparison.arms if arm not in arms)[
            :MOST_NAMED
        ],
        front=tuple(place for place, arm in enumerate(arms) if arm in front),
        x=_cost_side(pair, unit),
        y=Side(
            title=_("↑ %(metric)s, %%", metric=heading(comparison.metric)),
            higher=True,
            zero=False,
            least=0.0,
            most=100.0,
            span=4.0,
        ),
    )
    return Figure(
        name="trade-off",
        title=_title(pair, front),
        label=capitalized(_("%(metric)s against %(cost)s, one point per arm", **pair.words)),
        note=_note(pair, front),
        data=data,
        draw=drawing.chart,
        widths=(1040, 356),
        table=_table(pair, front),
        empty="" if arms else _("No arm has both a score and %(cost)s.", cost=_(pair.axis.title)),
    )


def _style(arm: RunArm, *, named: bool = True) -> MarkStyle:
    return MarkStyle(arm.title if named else "", arm.family, arm.hollow)


def _score_reach(score: ScoreInterval) -> Reach:
    low, high = (score.low, score.high) if score.usable else (score.mean, score.mean)
    return Reach(100 * score.mean, 100 * max(0.0, low), 100 * min(1.0, high))


def _cost_side(pair: _Pair, unit: str) -> Side:
    name = capitalized(_(pair.axis.title))
    lows = [spread.low for _arm, _score, spread in pair.arms]
    return Side(
        title=f"{name}, {unit} →" if unit else f"{name} →",
        higher=False,
        zero=bool(lows) and min(lows) < HALF * max(lows),  # else most of the chart would be empty
        log=bool(lows) and min(lows) > 0 and max(lows) > LOG * min(lows),
    )


def _lacks(arm: RunArm, pair: _Pair) -> str:
    if arm.score is None:
        return failure_label(arm.failure) if arm.failure else _("no result")
    return _("%(cost)s not known", cost=_(pair.axis.title))


def _title(pair: _Pair, front: list[RunArm]) -> str:
    if not front:
        if pair.comparable or len(pair.arms) < 2:
            return capitalized(_("%(metric)s against %(cost)s", **pair.words))
        return capitalized(
            _("%(metric)s against %(cost)s: not measured under the same conditions, so nothing wins", **pair.words)
        )
    values = {"some": len(front), "all": len(pair.arms), **pair.words}
    text = _("%(some)s of %(all)s arms are Pareto-optimal in %(metric)s and %(cost)s", **values)
    if len(front) > MOST_NAMED:
        return text
    return f"{text}: {join_names([arm.title for arm in front])}"


def _note(pair: _Pair, front: list[RunArm]) -> str:
    metric = title(pair.comparison.metric)
    parts = [_("Whiskers: 95 %% interval of the %(metric)s, smallest to largest seed of the cost.", metric=metric)]
    if front:
        parts.append(_("Dashed: the Pareto front of the means, without their uncertainty: it is not a ranking."))
    elif len(pair.arms) > 1:
        if not pair.comparison.scores_comparable:
            parts.append(_("No front: the scores are not of the same test items by the same metric."))
        if not pair.axis.comparable(pair.comparison):
            parts.append(_("No front: the cost was not measured under the same conditions."))
    return " ".join(parts)


def _table(pair: _Pair, front: list[RunArm]) -> Table:
    axis = pair.axis
    columns = (
        Column("arm", _("arm")),
        Column("score", title(pair.comparison.metric), percent),
        Column("score_low", _("from"), percent),
        Column("score_high", _("to"), percent),
        Column(axis.field, _(axis.title), lambda value: NOTHING if value is None else axis.say(value)),
        Column("seeds", _("seeds"), str),
        Column("front", _("Pareto-optimal")),
    )
    rows: list[tuple[Cell, ...]] = []
    for arm in pair.comparison.arms:
        score, spread = arm.score, axis.of(arm)
        interval = (score.low, score.high) if score and score.usable else (None, None)
        optimal = _("yes") if arm in front else _("no") if front else NOTHING
        rows.append(
            (
                arm.title,
                score.mean if score else None,
                *interval,
                spread.mean if spread else None,
                len(arm.scored),
                optimal,
            )
        )
    return Table(columns, tuple(rows))
