"""The columns of the table of arms: what each says of an arm, and what it sorts by.

To add a column, add it to `COLUMNS`: heads, sorting, cells and the address take it from there.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from app.domain.comparison.costs.costs import Costs
from app.domain.comparison.model import AnyComparison, ArmResult
from app.domain.comparison.statistics.verdict import VerdictKind
from app.domain.comparison.study import StudyComparison
from app.web.bars import Segment
from app.web.figures.drawing.axes import AXES
from app.web.figures.resources.memory import owner_segments
from app.words.data.baselines import above_baseline_text
from app.words.format import NOTHING, count, decimal, duration, file_size, hundred, memory_in, memory_unit, share
from app.words.i18n import gettext as _
from app.words.runs.failures import failure_label
from app.words.runs.metrics import heading
from app.words.verdict.needs import needs_label
from app.words.verdict.verdict import difference_text, score_reach, unusable_text, verdict_label, verdict_reason


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
    note = unusable_text(arm.score) or above_baseline_text(comparison, arm)
    return Cell(hundred(arm.score.mean), score_reach(arm.score), note, best=best)


def _difference(comparison: AnyComparison, arm: ArmResult) -> Cell:
    if arm.is_reference:
        return Cell("", _("reference"))
    if arm.difference:
        note = unusable_text(arm.difference) or "; ".join(filter(None, (verdict_label(arm.verdict), needs_label(arm))))
        return Cell(difference_text(arm), note=note)
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
        percentage = share(spread.mean, reference.mean)
        note = _("%(share)s of %(reference)s", share=percentage, reference=comparison.reference.title)
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
    note = share(trainable, arm.costs.total_parameters) if isinstance(arm.costs, Costs) else ""
    return Cell(count(trainable), note=note, best=_least(comparison, arm, "trainable"))


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
