"""The table of arms, of a study or of any runs: what each reached and cost, which are best, and in which order.

To add a column, add it to `COLUMNS`: heads, sorting, cells and the address take it from there.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from app.domain.comparison.baselines import BaselineResult, has_zero_shot
from app.domain.comparison.costs.costs import Costs
from app.domain.comparison.model import AnyComparison, ArmResult
from app.domain.comparison.statistics.verdict import VerdictKind
from app.domain.comparison.study import StudyComparison
from app.web.address import Address
from app.web.bars import Segment
from app.web.figures.drawing.axes import AXES
from app.web.figures.drawing.references import DASHES
from app.web.figures.resources.memory import holders, owner_segments
from app.web.figures.resources.parts import Holder
from app.words.data.baselines import baseline_remarks
from app.words.format import NOTHING, count, decimal, duration, file_size, hundred, memory_in, memory_unit, share
from app.words.i18n import gettext as _
from app.words.i18n import stored
from app.words.runs.failures import failure_label
from app.words.runs.metrics import heading
from app.words.verdict.needs import needs_label
from app.words.verdict.verdict import (
    difference_interval,
    difference_text,
    plus_minus_text,
    score_reach,
    unusable_text,
    verdict_label,
    verdict_reason,
)


@dataclass(frozen=True)
class Cell:
    """What stands in a column: `doubt` muted beside the text, `note` small below it."""

    text: str = NOTHING
    doubt: str = ""
    note: str = ""
    split: tuple[Segment, ...] = ()
    """A bar by owner."""
    best: bool = False
    """The best of its column, or not significantly worse."""


@dataclass(frozen=True)
class Column:
    title: Callable[[AnyComparison], str]
    unit: Callable[[AnyComparison], str]
    value: Callable[[ArmResult], float | None]
    """What it sorts by."""
    cell: Callable[[AnyComparison, ArmResult], Cell]
    falls: bool = False
    """The largest is the best, and comes first."""


def _score(comparison: AnyComparison, arm: ArmResult) -> Cell:
    if arm.score is None:
        return Cell(failure_label(arm.failure) if arm.failure else NOTHING)
    scored = [other for other in comparison.arms if other.score]
    best = isinstance(comparison, StudyComparison) and arm.title in comparison.best_scores and len(scored) > 1
    return Cell(hundred(arm.score.mean), score_reach(arm.score), unusable_text(arm.score), best=best)


def _difference(comparison: AnyComparison, arm: ArmResult) -> Cell:
    if arm.is_reference:
        return Cell("", _("reference"))
    if arm.difference:
        words = [verdict_label(arm.verdict)]
        if not isinstance(comparison, StudyComparison):  # a study's page says beside its action what would decide
            words.append(needs_label(arm))
        return Cell(difference_text(arm), note=unusable_text(arm.difference) or "; ".join(filter(None, words)))
    why = verdict_reason(comparison, arm) if arm.verdict and arm.verdict.kind is VerdictKind.NONE else ""
    return Cell(NOTHING, note=why)


def _memory(comparison: AnyComparison, arm: ArmResult) -> Cell:
    spread, reference = AXES["memory"].spread(arm), AXES["memory"].spread(comparison.reference)
    if spread is None:
        return Cell()
    bar: tuple[Segment, ...] = ()
    if isinstance(comparison, StudyComparison) and isinstance(arm.costs, Costs):
        bar = owner_segments(comparison, arm.costs)
    note = ""
    if comparison.memory_comparable and not arm.is_reference and reference:
        note = share(spread.mean, reference.mean)
    text = memory_in(spread.mean, _largest_peak(comparison))
    return Cell(text, note=note, split=bar, best=_least(comparison, arm, "memory"))


def _largest_peak(comparison: AnyComparison) -> float:
    """It decides the unit of the column."""
    return max((spread.mean for spread in map(AXES["memory"].spread, comparison.arms) if spread), default=0.0)


def _time(comparison: AnyComparison, arm: ArmResult) -> Cell:
    spread, reference = AXES["time"].spread(arm), AXES["time"].spread(comparison.reference)
    if spread is None:
        return Cell()
    compared = reference if comparison.times_comparable and not arm.is_reference else None
    note = share(spread.mean, compared.mean) if compared else ""
    return Cell(duration(spread.mean), note=note, best=_least(comparison, arm, "time"))


def _trainable(comparison: AnyComparison, arm: ArmResult) -> Cell:
    trainable = arm.costs.trainable_parameters if arm.costs else None
    return Cell(count(trainable), best=_least(comparison, arm, "trainable"))


def _file(comparison: AnyComparison, arm: ArmResult) -> Cell:
    return Cell(file_size(_mean("file")(arm)), best=_least(comparison, arm, "file"))


def _forgetting(comparison: AnyComparison, arm: ArmResult) -> Cell:
    return Cell(decimal(_mean("forgetting")(arm), 3, signed=True), best=_least(comparison, arm, "forgetting"))


def _mean(axis: str) -> Callable[[ArmResult], float | None]:
    """Over the seeds of an arm, on an axis of AXES."""
    return lambda arm: spread.mean if (spread := AXES[axis].spread(arm)) else None


def _least(comparison: AnyComparison, arm: ArmResult, name: str) -> bool:
    """No arm's seeds all lie below all of this arm's: it is the cheapest, or its range meets that of the cheapest."""
    axis = AXES[name]
    own, spreads = axis.spread(arm), [spread for other in comparison.arms if (spread := axis.spread(other))]
    if own is None or len(spreads) < 2 or not isinstance(comparison, StudyComparison):
        return False
    return axis.comparable(comparison) and all(own.low <= spread.high for spread in spreads)


COLUMNS: Mapping[str, Column] = {
    "score": Column(
        lambda comparison: heading(comparison.metric),
        lambda comparison: "%",
        lambda arm: arm.score.mean if arm.score else None,
        _score,
        falls=True,
    ),
    "difference": Column(
        lambda comparison: _("vs. %(reference)s", reference=comparison.reference.title),
        lambda comparison: _("points"),
        lambda arm: 0.0 if arm.is_reference else arm.delta,
        _difference,
        falls=True,
    ),
    "memory": Column(
        lambda comparison: _("Peak memory"),
        lambda comparison: memory_unit(_largest_peak(comparison))[1],
        _mean("memory"),
        _memory,
    ),
    "time": Column(lambda comparison: _("Train time"), lambda comparison: _("per seed"), _mean("time"), _time),
    "trainable": Column(
        lambda comparison: _("Trainable"), lambda comparison: _("params"), _mean("trainable"), _trainable
    ),
    "file": Column(lambda comparison: _("File"), lambda comparison: "", _mean("file"), _file),
    "forgetting": Column(
        lambda comparison: _("Forgetting"), lambda comparison: _("nats/token"), _mean("forgetting"), _forgetting
    ),
}


SORTS = ("arm", *COLUMNS)
"""What the table sorts by, as the address names it; with a minus the largest comes first."""


@dataclass(frozen=True)
class Head:
    """The head of a column, which sorts."""

    name: str
    title: str
    unit: str
    href: str
    """The same page in this column's order; reversed where that is the current one."""
    active: bool
    num: bool


@dataclass(frozen=True)
class Yardstick:
    """What arms are measured against: it was not trained in the study, and has no seeds."""

    title: str
    note: str
    cells: tuple[Cell, ...]
    """In the order of the columns."""
    dash: int = 0
    """Number of a baseline's dash, from 1."""


@dataclass(frozen=True)
class ArmsTable:
    heads: tuple[Head, ...]
    falls: bool
    """From the largest value of the column that it is sorted by."""
    rows: tuple[tuple[ArmResult, tuple[Cell, ...]], ...]
    """Arms with their cells in the order of the columns."""
    labels: tuple[str, ...]
    """The columns' titles with their units, for a cell that stands alone."""
    yardsticks: tuple[Yardstick, ...]
    """The base model before training where it was evaluated, then the study's baselines."""
    remarks: tuple[str, ...]
    """Why baselines could not be computed, or that they learned from a sample."""
    key: Sequence[Holder]
    """The legend of the memory bars."""
    forgetting: bool
    interval: str
    """What ± stands for."""
    unsorted: str
    """The address of the original order; empty where that is the current one."""

    @classmethod
    def of(cls, comparison: AnyComparison, address: Address, sort: str) -> "ArmsTable":
        """In the order of a column: `memory`, or `-memory` for the largest first."""
        study = comparison if isinstance(comparison, StudyComparison) else None
        forgetting = any(map(AXES["forgetting"].spread, comparison.arms))
        names = [name for name in COLUMNS if name != "forgetting" or forgetting]
        return cls(
            heads=tuple(_head(name, comparison, address, sort) for name in ("arm", *names)),
            falls=sort.startswith("-"),
            rows=tuple(
                (arm, tuple(COLUMNS[name].cell(comparison, arm) for name in names))
                for arm in sorted_arms(comparison.arms, sort)
            ),
            labels=tuple(
                ", ".join(filter(None, (COLUMNS[name].title(comparison), COLUMNS[name].unit(comparison))))
                for name in names
            ),
            yardsticks=tuple(_yardsticks(study, names)) if study else (),
            remarks=tuple(baseline_remarks(study)) if study else (),
            key=_visible_holders(study) if study else (),
            forgetting=forgetting,
            interval=plus_minus_text(comparison),
            unsorted=address.to({"sort": ""}, "arms") if sort else "",
        )


VISIBLE = 0.01
"""Share of the largest peak from which an owner's part of a bar can be seen."""


def _visible_holders(study: StudyComparison) -> list[Holder]:
    """The owners that a bar shows, for its legend."""
    shown = {
        segment.css
        for arm in study.arms
        if isinstance(arm.costs, Costs)
        for segment in owner_segments(study, arm.costs)
        if segment.width >= 100 * VISIBLE
    }
    return [holder for holder in holders(study) if holder.css in shown]


def sorted_arms(arms: Sequence[ArmResult], sort: str) -> list[ArmResult]:
    """Arms by a column; those without a value last either way, equal ones in the original order."""
    name, falls = sort.removeprefix("-"), sort.startswith("-")
    if not sort:
        return list(arms)
    if name == "arm":
        return sorted(arms, key=lambda arm: arm.title.casefold(), reverse=falls)
    value = COLUMNS[name].value
    known = sorted((arm for arm in arms if value(arm) is not None), key=lambda arm: value(arm) or 0.0, reverse=falls)
    return known + [arm for arm in arms if value(arm) is None]


def _yardsticks(study: StudyComparison, names: Sequence[str]) -> Iterator[Yardstick]:
    if study.base_score is not None and not has_zero_shot(study.baselines):
        base = {
            "score": Cell(hundred(study.base_score.mean), score_reach(study.base_score)),
            "difference": Cell(difference_interval(study.base_difference) if study.base_difference else NOTHING),
            "trainable": Cell("0"),
        }
        yield Yardstick(_("base model"), _("before training"), tuple(base.get(name, Cell("")) for name in names))
    for place, baseline in enumerate(study.baselines):
        cells = {"score": _baseline_score(baseline), "difference": _baseline_difference(baseline)}
        row = tuple(cells.get(name, Cell("")) for name in names)
        note = ""
        if baseline.stored.status == "not_applicable":
            note = _("not applicable: %(why)s", why=stored(baseline.stored.message))
        yield Yardstick(_(baseline.title), note, row, dash=place % len(DASHES) + 1)


def _baseline_score(baseline: BaselineResult) -> Cell:
    if baseline.score is None:
        return Cell(
            NOTHING, note={"working": _("in progress"), "failed": _("not computed")}.get(baseline.stored.status, "")
        )
    return Cell(hundred(baseline.score.mean), score_reach(baseline.score))


def _baseline_difference(baseline: BaselineResult) -> Cell:
    if baseline.difference is None:
        return Cell(NOTHING)
    return Cell(difference_interval(baseline.difference), note="" if baseline.beaten else _("not beaten"))


def _head(name: str, comparison: AnyComparison, address: Address, sort: str) -> Head:
    column = COLUMNS.get(name)
    first = f"-{name}" if column and column.falls else name
    reverse = name if first.startswith("-") else f"-{name}"
    return Head(
        name=name,
        title=column.title(comparison) if column else _("Arm"),
        unit=column.unit(comparison) if column else "",
        href=address.to({"sort": reverse if sort == first else first}, "arms"),
        active=sort.removeprefix("-") == name,
        num=name != "arm" and not (name == "memory" and isinstance(comparison, StudyComparison)),  # there it has a bar
    )
