"""The table of arms: what each reached and cost, which are best, and in which order one looks at them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from app.domain.comparison.costs import Costs, Spread
from app.domain.comparison.study import RunOutcome, StudyArm, StudyComparison
from app.domain.comparison.verdict import ScoreInterval, VerdictKind
from app.domain.methods import Family
from app.domain.models.base_model import ModelFacts
from app.domain.runs.status import RunStatus
from app.web.address import Address
from app.web.bars import Segment, segments
from app.web.figures import Key
from app.web.figures.memory import key, split
from app.web.format import NOTHING, mib
from app.web.i18n import gettext as _
from app.web.text.arms import settings
from app.web.text.confidence import plus_minus_is
from app.web.text.failures import failure_label
from app.web.text.metrics import heading
from app.web.text.verdict import VERDICT_LABELS, difference_interval, difference_text


@dataclass(frozen=True)
class LostRun:
    """A run that ended without a result."""

    id: int
    seed: int
    why: str


@dataclass(frozen=True)
class ArmRow:
    """An arm in the table. `best_…`: the best of its column, or not to be told apart from it."""

    title: str
    family: Family
    hollow: int
    is_reference: bool
    settings: str
    score: ScoreInterval | None
    delta: float | None
    """To the reference, a fraction; 0 for the reference itself, None without an interval."""
    difference: str
    word: str
    costs: Costs | None
    forgetting: Spread | None
    """Nats per token."""
    peak: str
    """In MiB."""
    split: tuple[Segment, ...]
    lost: tuple[LostRun, ...]
    done: int
    owed: int
    state: str
    """Why it has no runs, or no more of them; empty where it has what it owes."""
    can_stop: bool
    """It has something left to do."""
    best_score: bool
    best_memory: bool
    best_time: bool
    best_trainable: bool
    best_file: bool
    best_forgetting: bool


Value = float | str | None
COLUMNS: Mapping[str, tuple[Callable[[ArmRow], Value], bool]] = {
    "arm": (lambda row: row.title.casefold(), False),
    "score": (lambda row: row.score.mean if row.score else None, True),
    "difference": (lambda row: row.delta, True),
    "memory": (lambda row: row.costs.peak_bytes.mean if row.costs else None, False),
    "time": (lambda row: row.costs.train_seconds.mean if row.costs else None, False),
    "trainable": (lambda row: row.costs.trainable_parameters if row.costs else None, False),
    "file": (lambda row: row.costs.artifact_bytes if row.costs else None, False),
    "forgetting": (lambda row: row.forgetting.mean if row.forgetting else None, False),
}
"""What a column sorts by, by its name in the address, and whether its best is its largest: that comes first."""


@dataclass(frozen=True)
class Head:
    """The head of a column, which sorts."""

    name: str
    title: str
    unit: str
    href: str
    """The same page in this column's order; turned round where that is in force."""
    active: bool
    direction: Literal["ascending", "descending"]
    """Of the order in force."""
    num: bool


@dataclass(frozen=True)
class Arms:
    """The table of arms."""

    heads: tuple[Head, ...]
    rows: tuple[ArmRow, ...]
    """In the order asked for."""
    reference: ArmRow
    untouched: ScoreInterval | None
    untouched_difference: str
    """To the reference; empty where that has no result."""
    key: tuple[Key, ...]
    memory_comparable: bool
    times_comparable: bool
    forgetting: bool
    """It was measured, so there is a column for it."""
    interval: str
    """What ± is."""
    unsorted: str
    """The address of the study's own order; empty where that is in force."""

    @classmethod
    def of(cls, found: StudyComparison, model: ModelFacts | None, address: Address, sort: str) -> "Arms":
        """From a comparison and its base model, in the order of a column: `memory`, or `-memory` where it falls."""
        costs = [arm.costs for arm in found.arms if arm.costs]
        longest = max((max(c.peak_bytes.mean, sum(size for _css, size in split(found, c))) for c in costs), default=1.0)
        rows = tuple(_row(found, arm, model, longest) for arm in found.arms)
        reference = next(row for row in rows if row.is_reference)
        return cls(
            heads=_heads(found, address, sort),
            rows=ordered(rows, sort),
            reference=reference,
            untouched=found.base_score,
            untouched_difference=difference_interval(found.base_difference) if found.base_difference else "",
            key=key(found),
            memory_comparable=found.memory_comparable,
            times_comparable=found.times_comparable,
            forgetting=found.forgetting_measured,
            interval=plus_minus_is(found.confidence, [seen.confidence for seen in found.differences]),
            unsorted=address.to({"sort": ""}, "arms") if sort else "",
        )


def ordered(rows: Sequence[ArmRow], sort: str) -> tuple[ArmRow, ...]:
    """Rows by a column; those without a value last either way, equal ones in the order of the study."""
    if not sort:
        return tuple(rows)
    value, _falls = COLUMNS[sort.removeprefix("-")]
    known = [(found, row) for row in rows if (found := value(row)) is not None]
    known.sort(key=lambda pair: pair[0], reverse=sort.startswith("-"))
    return tuple(row for _value, row in known) + tuple(row for row in rows if value(row) is None)


def _heads(found: StudyComparison, address: Address, sort: str) -> tuple[Head, ...]:
    against = _("Against %(reference)s", reference=found.reference.title)
    titles = {
        "arm": (_("Arm"), ""),
        "score": (heading(found.metric), "%"),
        "difference": (against, _("points")),
        "memory": (_("Peak memory"), "MiB"),
        "time": (_("Train time"), _("a seed")),
        "trainable": (_("Trainable"), _("parameters")),
        "file": (_("File"), ""),
        "forgetting": (_("Forgetting"), _("nats per token")),
    }
    if not found.forgetting_measured:
        del titles["forgetting"]
    return tuple(_head(name, *words, address, sort) for name, words in titles.items())


def _head(name: str, title: str, unit: str, address: Address, sort: str) -> Head:
    first = f"-{name}" if COLUMNS[name][1] else name
    other = first.removeprefix("-") if first.startswith("-") else f"-{name}"
    return Head(
        name=name,
        title=title,
        unit=unit,
        href=address.to({"sort": other if sort == first else first}, "arms"),
        active=sort.removeprefix("-") == name,
        direction="descending" if sort.startswith("-") else "ascending",
        num=name not in ("arm", "memory"),
    )


def _row(found: StudyComparison, arm: StudyArm, model: ModelFacts | None, longest: float) -> ArmRow:
    several = len([a for a in found.arms if a.costs]) > 1
    return ArmRow(
        title=arm.title,
        family=arm.family,
        hollow=arm.hollow,
        is_reference=arm.is_reference,
        settings=settings(arm, model, found.spec.task),
        score=arm.score,
        delta=0.0 if arm.is_reference else arm.delta,
        difference=difference_text(arm),
        word=_(VERDICT_LABELS[arm.verdict_kind]) if arm.verdict_kind is not VerdictKind.NONE else "",
        costs=arm.costs,
        forgetting=arm.forgetting,
        peak=mib(arm.costs.peak_bytes.mean) if arm.costs else NOTHING,
        split=segments(split(found, arm.costs), longest) if arm.costs else (),
        lost=tuple(_lost(run) for run in arm.failed),
        done=len(arm.succeeded),
        owed=len(arm.runs),
        state=_state(arm),
        can_stop=not arm.stopped and (arm.awaits_rate or any(not run.status.terminal for run in arm.runs)),
        best_score=several and arm.title in found.best_scores,
        best_memory=several
        and found.memory_comparable
        and _least(found, arm, lambda c: (c.peak_bytes.low, c.peak_bytes.high)),
        best_time=several
        and found.times_comparable
        and _least(found, arm, lambda c: (c.train_seconds.low, c.train_seconds.high)),
        best_trainable=several and _least(found, arm, lambda c: (c.trainable_parameters, c.trainable_parameters)),
        best_file=several and _least(found, arm, lambda c: (c.artifact_bytes, c.artifact_bytes)),
        best_forgetting=several and _forgets_least(found, arm),
    )


def _state(arm: StudyArm) -> str:
    if arm.stopped:
        return _("stopped")
    if arm.tuning and arm.tuning.hopeless:
        reason = _(": %(why)s", why=failure_label(arm.failure)) if arm.failure else ""
        return _("no learning rate could be trained") + reason
    if arm.awaits_rate:
        return _("its learning rate is being looked for")
    return ""


def _least(found: StudyComparison, arm: StudyArm, span: Callable[[Costs], tuple[float, float]]) -> bool:
    """No arm's seeds all lie below all of this arm's: it is the cheapest, or its range meets that of the cheapest."""
    if arm.costs is None:
        return False
    low, _high = span(arm.costs)
    return all(low <= span(other.costs)[1] for other in found.arms if other.costs)


def _forgets_least(found: StudyComparison, arm: StudyArm) -> bool:
    """The same for what was forgotten."""
    own, seen = arm.forgetting, [a.forgetting for a in found.arms if a.forgetting]
    return own is not None and len(seen) > 1 and all(own.low <= other.high for other in seen)


def _lost(run: RunOutcome) -> LostRun:
    cancelled = run.status is RunStatus.CANCELLED or run.failure is None
    return LostRun(run.run_id, run.seed, _("cancelled") if cancelled or not run.failure else failure_label(run.failure))
