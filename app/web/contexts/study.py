"""The context of a study's page: the verdict, its evidence, and where its runs stand."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from app.domain.comparison import Arm, Comparison, Costs, RunOutcome, Spread
from app.domain.methods import Family
from app.domain.models import ModelFacts
from app.domain.runs import RunStatus
from app.domain.verdict import Estimate, VerdictKind
from app.web.contexts.bars import Segment, segments
from app.web.contexts.study_conditions import StudyConditions
from app.web.contexts.study_progress import StudyAdvance
from app.web.figures import Drawn, Key
from app.web.figures.memory import OwnerRow, key, owner_rows, split
from app.web.figures.owners import Foreseen
from app.web.i18n import gettext as _
from app.web.numbers import GIB, NOTHING, decimal, mib
from app.web.words import Caveat, Fact, caveats, facts, headline, lead
from app.web.words.arms import settings
from app.web.words.metrics import heading
from app.web.words.parts import WORDS, difference, failures, kind, remedy, why, with_doubt

Cost = Literal["memory", "time"]
Curve = Literal["loss", "validation"]


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
    score: Estimate | None
    difference: str
    word: str
    costs: Costs | None
    forgetting: Spread | None
    """Nats per token."""
    peak: str
    """In the column's unit."""
    split: tuple[Segment, ...]
    lost: tuple[LostRun, ...]
    done: int
    owed: int
    best_score: bool
    best_memory: bool
    best_time: bool
    best_trainable: bool
    best_file: bool
    best_forgetting: bool


@dataclass(frozen=True)
class Arms:
    """The table of arms."""

    rows: tuple[ArmRow, ...]
    reference: ArmRow
    untouched: Estimate | None
    untouched_difference: str
    """To the reference; empty where that has no result."""
    measure: str
    """The metric, at the head of its column."""
    unit: str
    """Of the column of peaks."""
    key: tuple[Key, ...]
    memory_comparable: bool
    times_comparable: bool
    forgetting: bool
    """It was measured, so there is a column for it."""

    @classmethod
    def of(cls, found: Comparison, model: ModelFacts | None) -> "Arms":
        """From a comparison and its base model."""
        costs = [arm.costs for arm in found.arms if arm.costs]
        longest = max((max(c.peak_bytes.mean, sum(size for _css, size in split(found, c))) for c in costs), default=1.0)
        unit = "GiB" if longest >= GIB else "MiB"
        rows = tuple(_row(found, arm, model, longest, unit) for arm in found.arms)
        reference = next(row for row in rows if row.is_reference)
        return cls(
            rows=rows,
            reference=reference,
            untouched=found.base,
            untouched_difference=with_doubt(found.base_difference) if found.base_difference else "",
            measure=heading(found.metric),
            unit=unit,
            key=key(found),
            memory_comparable=found.memory_comparable,
            times_comparable=found.times_comparable,
            forgetting=found.forgetting_measured,
        )


@dataclass(frozen=True)
class Trouble:
    """A reason for which runs failed."""

    why: str
    runs: int
    message: str
    remedy: str


@dataclass(frozen=True)
class StudyPage:
    """A study."""

    id: int
    name: str
    headline: str
    lead: str
    facts: tuple[Fact, ...]
    caveats: tuple[Caveat, ...]
    arms: Arms
    figures: Mapping[str, Drawn]
    cost: Cost
    curve: Curve
    advance: StudyAdvance
    conditions: StudyConditions
    troubles: tuple[Trouble, ...]
    margin: float
    """Points."""
    owner_rows: tuple[OwnerRow, ...]
    """Memory in numbers, over the arms that have costs."""

    @property
    def live(self) -> bool:
        """Runs are queued or at work."""
        return self.advance.live

    @property
    def has_results(self) -> bool:
        """An arm has a score."""
        return any(row.score for row in self.arms.rows)

    @property
    def trade_off(self) -> Drawn:
        """The figure of the score over what one asked for."""
        return self.figures[f"score-{self.cost}"]

    @property
    def curves(self) -> Drawn:
        """The curves that one asked for."""
        return self.figures[self.curve]

    @property
    def undecided(self) -> bool:
        """Seeds may be added, and would help."""
        return not self.live and bool(self.advance.would_decide)

    @classmethod
    def of(
        cls,
        study_id: int,
        found: Comparison,
        *,
        model: ModelFacts | None,
        figures: Mapping[str, Drawn],
        cost: Cost,
        curve: Curve,
        advance: StudyAdvance,
        conditions: StudyConditions,
        foreseen: Mapping[str, Foreseen],
    ) -> "StudyPage":
        """From what was measured and drawn."""
        return cls(
            id=study_id,
            name=found.spec.name,
            headline=headline(found),
            lead=lead(found),
            facts=facts(found),
            caveats=caveats(found),
            arms=Arms.of(found, model),
            figures=figures,
            cost=cost,
            curve=curve,
            advance=advance,
            conditions=conditions,
            troubles=tuple(
                Trouble(why(reason), times, reason.message, remedy(reason)) for reason, times in failures(found)
            ),
            margin=found.spec.margin_points,
            owner_rows=owner_rows(found, foreseen),
        )


def _row(found: Comparison, arm: Arm, model: ModelFacts | None, longest: float, unit: str) -> ArmRow:
    several = len([a for a in found.arms if a.costs]) > 1
    return ArmRow(
        title=arm.title,
        family=arm.family,
        hollow=arm.hollow,
        is_reference=arm.is_reference,
        settings=settings(arm, model, found.spec.task),
        score=arm.score,
        difference=difference(arm),
        word=_(WORDS[kind(arm)]) if kind(arm) is not VerdictKind.NONE else "",
        costs=arm.costs,
        forgetting=arm.forgetting,
        peak=_peak(arm.costs.peak_bytes.mean, unit) if arm.costs else NOTHING,
        split=segments(split(found, arm.costs), longest) if arm.costs else (),
        lost=tuple(_lost(run) for run in arm.failed),
        done=len(arm.succeeded),
        owed=len(arm.runs),
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


def _peak(value: float, unit: str) -> str:
    return decimal(value / GIB) if unit == "GiB" else mib(value)


def _least(found: Comparison, arm: Arm, span: Callable[[Costs], tuple[float, float]]) -> bool:
    """No arm's seeds all lie below all of this arm's: it is the cheapest, or its range meets that of the cheapest."""
    if arm.costs is None:
        return False
    low, _high = span(arm.costs)
    return all(low <= span(other.costs)[1] for other in found.arms if other.costs)


def _forgets_least(found: Comparison, arm: Arm) -> bool:
    """The same for what was forgotten."""
    own, seen = arm.forgetting, [a.forgetting for a in found.arms if a.forgetting]
    return own is not None and len(seen) > 1 and all(own.low <= other.high for other in seen)


def _lost(run: RunOutcome) -> LostRun:
    cancelled = run.status is RunStatus.CANCELLED or run.failure is None
    return LostRun(run.run_id, run.seed, _("cancelled") if cancelled or not run.failure else why(run.failure))
