"""Comparisons as JSON, with the numbers and the sentences of the pages. Fractions, bytes and seconds."""

from collections import Counter
from collections.abc import Mapping
from math import isfinite
from typing import Annotated, Any, Literal, Self

from fastapi import APIRouter
from pydantic import BeforeValidator, Field

from app.domain.comparison.baselines import BaselineResult
from app.domain.comparison.confounders import ConditionName, Confounder, ConfounderKind, Effect
from app.domain.comparison.costs import ArmCosts, Costs, Spread
from app.domain.comparison.intervals import ScoreInterval
from app.domain.comparison.model import AnyComparison, ArmResult
from app.domain.comparison.runs import RunArm, RunComparison
from app.domain.comparison.study import StudyArm, StudyComparison
from app.domain.comparison.verdict import Basis, McNemar, Reason, VerdictKind
from app.domain.data.baselines import BaselineKind
from app.domain.methods import Family
from app.domain.studies.arm_tuning import Rival
from app.domain.studies.power import RequiredSample
from app.domain.studies.tuning import Trial
from app.services import compare as compare_service
from app.web.api.answer import Answer
from app.web.http.compare_query import SelectedRuns
from app.web.http.dependencies import Reading
from app.web.http.errors import problems
from app.web.i18n import gettext
from app.web.text import confounders as confounder_words
from app.web.text.caveats import caveats
from app.web.text.failures import failure_label
from app.web.text.headline import headline, phrase, runs_headline, runs_lead, summary
from app.web.text.lead import lead
from app.web.text.verdict import (
    plus_minus_text,
    unusable_text,
    verdict_label,
    verdict_reason,
    verdict_sentence,
)

router = APIRouter(tags=["compare"])

Finite = Annotated[float | None, BeforeValidator(lambda end: end if end is None or isfinite(end) else None)]


class ScoreOut(Answer):
    """A mean with its 95 % interval."""

    mean: float
    low: Finite
    high: Finite
    seeds: int
    items: int | None
    usable: bool
    """False if the interval is wider than the scale of the score: it carries no information."""
    note: str
    """Why the interval is not usable: `1 seed and 3 test items give no usable interval`."""

    @classmethod
    def of(cls, score: ScoreInterval | None) -> Self | None:
        """With its note."""
        return cls.from_object(score, note=unusable_text(score)) if score else None


class VerdictOut(Answer):
    """An arm compared with the reference; the interval is corrected for the number of arms."""

    kind: VerdictKind
    label: str
    """The kind in words: `hint: worse`."""
    sentence: str
    reason: Reason
    explanation: str
    """The reason in words."""
    basis: Basis | None
    """Per-item scores, or two proportions of equally many items that are treated as independent (Newcombe 1998)."""
    hint: VerdictKind | None
    """For `hint`: the verdict that the items alone imply."""
    confounder: ConfounderKind | None
    """For `none`: what rules a verdict out."""
    delta: float | None
    low: Finite
    high: Finite
    confidence: float | None
    usable: bool
    """False without an interval, or if it is wider than the scale of a difference."""
    needs: RequiredSample | None
    """Seeds or test items that would decide with ~50 % power."""

    @classmethod
    def of(cls, comparison: AnyComparison, arm: ArmResult) -> Self | None:
        """None for the reference."""
        verdict, difference = arm.verdict, arm.difference
        if verdict is None:
            return None
        return cls.from_object(
            verdict,
            **{name: getattr(difference, name, None) for name in ("delta", "low", "high", "confidence")},
            usable=difference is not None and difference.usable,
            label=verdict_label(verdict),
            sentence=verdict_sentence(comparison, arm),
            explanation=verdict_reason(comparison, arm),
        )


class ArmOut(Answer):
    """An arm: runs that differ only by their seed."""

    title: str
    method: str
    family: Family
    reference: bool
    runs: list[int]
    statuses: dict[str, int]
    """How many runs have each status."""
    seeds: int
    """Runs that succeeded."""
    failed: str
    """Why no run has a score: `out of memory`; empty if a run has one, or none failed."""
    score: ScoreOut | None
    verdict: VerdictOut | None

    @classmethod
    def from_arm(cls, comparison: AnyComparison, arm: ArmResult, **derived: Any) -> Self:
        """An arm of a study, or of any runs."""
        return cls.from_object(
            arm,
            reference=arm.is_reference,
            runs=[run.run_id for run in arm.runs],
            statuses=Counter(run.status.value for run in arm.runs),
            seeds=arm.score.seeds if arm.score else 0,
            failed=failure_label(arm.failure) if arm.failure and arm.score is None else "",
            score=ScoreOut.of(arm.score),
            verdict=VerdictOut.of(comparison, arm),
            **derived,
        )


class RunArmOut(ArmOut):
    """An arm of any runs."""

    imported: bool
    costs: ArmCosts
    settings: Mapping[str, str]

    @classmethod
    def of(cls, comparison: RunComparison, arm: RunArm) -> Self:
        """From the domain."""
        return cls.from_arm(comparison, arm, method=arm.first.method, settings=arm.first.settings)


class TriedOut(Answer):
    """A learning rate that an arm tried in a round; mean over its seeds, on the validation split."""

    learning_rate: float = Field(validation_alias="rate")
    round: int
    score: float | None
    """None if the metric needs generated text, or no trial succeeded."""
    loss: float | None
    trials: list[Annotated[int, BeforeValidator(lambda trial: trial.run_id if isinstance(trial, Trial) else trial)]]
    """Ids of the runs."""
    failed: int = Field(validation_alias="lost")


class TuningOut(Answer):
    """The search for an arm's learning rate."""

    chosen: float | None
    """None until it is chosen."""
    edge: Literal["smallest", "largest"] | None
    """Which end of the search the chosen rate is at, if any: a better rate may lie beyond it."""
    rival: Rival | None
    """The closest of the rates that are not significantly worse than the chosen one."""
    failed: bool
    """Every trial of a round failed: the arm has no runs."""
    steps: int
    tokens: int
    tried: list[TriedOut]


class StudyArmOut(ArmOut):
    """An arm of a study."""

    learning_rate: float
    tuning: TuningOut | None
    """None without a search for learning rates."""
    stopped: bool
    costs: Costs | None
    forgetting: Spread | None
    """Rise of the loss on general text, nats per token."""

    @classmethod
    def of(cls, study: StudyComparison, arm: StudyArm) -> Self:
        """From the domain."""
        return cls.from_arm(study, arm, method=arm.spec.method.kind)


class ConfounderOut(Answer):
    """A condition that makes arms incomparable, and what it rules out."""

    kind: ConfounderKind
    effect: Effect
    differs: str
    consequence: str
    sentence: str
    values: dict[str, tuple[str, ...]]
    """Arms by value; an empty value is unknown, or belongs to a confounder without values."""

    @classmethod
    def of(cls, confounder: Confounder, comparison: AnyComparison) -> Self:
        """In words."""
        return cls.from_object(
            confounder,
            differs=confounder_words.what_differs(confounder, comparison),
            consequence=confounder_words.consequence(confounder),
            sentence=confounder_words.confounder_text(confounder, comparison),
        )


class BaselineOut(Answer):
    """A cheap predictor of the same test items, which the reference arm must beat."""

    kind: BaselineKind
    title: str
    definition: str
    status: Literal["working", "ready", "failed"]
    message: str
    """Why it could not be computed."""
    score: ScoreOut | None
    """Over the test items; there are no seeds."""
    difference: ScoreOut | None
    """Baseline minus reference; None without a result of the reference on the same items."""
    beaten: bool
    """The reference is significantly better; with one seed, as far as the test items tell."""
    trained_rows: int | None
    """Training rows that it learned from; None until it is computed."""

    @classmethod
    def of(cls, result: BaselineResult) -> Self:
        """In words."""
        return cls.from_object(
            result.stored,
            title=gettext(result.title),
            definition=gettext(result.facts.definition),
            score=ScoreOut.of(result.score),
            difference=ScoreOut.of(result.difference),
            beaten=result.beaten,
            trained_rows=result.stored.baseline.trained_rows if result.stored.baseline else None,
        )


class ComparisonOut(Answer):
    """Arms compared with a reference."""

    headline: str
    lead: str
    interval: str
    """The meaning of ±."""
    metric: str
    """Of every score and verdict."""
    margin: float
    """As a fraction: 0.02 is two points."""
    confidence: float
    """Of all verdicts together: 0.95, higher after each interim look."""
    memory_comparable: bool
    times_comparable: bool
    confounders: list[ConfounderOut]
    """The most severe first."""

    @classmethod
    def from_comparison(cls, comparison: AnyComparison, **derived: Any) -> Self:
        """A comparison of a study, or of any runs."""
        return cls.from_object(
            comparison,
            interval=plus_minus_text(comparison),
            confounders=[ConfounderOut.of(confounder, comparison) for confounder in comparison.confounders],
            **derived,
        )


class RunComparisonOut(ComparisonOut):
    """Any runs, compared."""

    scores_comparable: bool
    arms: list[RunArmOut]
    mcnemar: McNemar | None
    differing_settings: dict[str, tuple[str, ...]]
    """Settings that differ between arms, with the value of each arm."""

    @classmethod
    def of(cls, comparison: RunComparison) -> Self:
        """From the domain."""
        return cls.from_comparison(
            comparison,
            headline=runs_headline(comparison),
            lead=runs_lead(comparison),
            arms=[RunArmOut.of(comparison, arm) for arm in comparison.arms],
        )


class StudyComparisonOut(ComparisonOut):
    """A study, compared by its runs so far."""

    study_id: int
    name: str
    phrase: str
    """The headline in a few words, for a list."""
    summary: str
    """The answer to quote: the verdict, its interval, and what the arm needs."""
    caveats: list[str]
    """What limits the verdict, the most severe first."""
    complete: bool
    interim_looks: int
    """How often seeds were added while results were visible."""
    items: int | None
    """Test items."""
    base_score: ScoreOut | None
    """Of the base model before training."""
    baselines: list[BaselineOut]
    arms: list[StudyArmOut]
    differed: dict[ConditionName, dict[str, str]]
    """Conditions that differ between arms, and their values."""

    @classmethod
    def of(cls, study_id: int, study: StudyComparison) -> Self:
        """From the domain."""
        return cls.from_comparison(
            study,
            study_id=study_id,
            name=study.spec.name,
            headline=headline(study),
            lead=lead(study),
            phrase=phrase(study),
            summary=summary(study),
            caveats=[caveat.text for caveat in caveats(study)],
            base_score=ScoreOut.of(study.base_score),
            baselines=[BaselineOut.of(baseline) for baseline in study.baselines],
            arms=[StudyArmOut.of(study, arm) for arm in study.arms],
            differed={condition.name: condition.values for condition in study.conditions if not condition.equal},
        )


@router.get("/compare", operation_id="compareRuns", responses=problems(404, 422))
def compare(session: Reading, selection: SelectedRuns) -> RunComparisonOut:
    """Compare any runs, of one study or of several, trained here or imported. Runs that differ only by their seed are
    one arm. `confounders` lists what makes the arms incomparable, each with its consequence."""
    return RunComparisonOut.of(compare_service.compare(session, selection).strict)
