"""The arms of a comparison as JSON: scores, verdicts, the search for hyperparameters, costs."""

from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field

from app.domain.comparison.costs.costs import ArmCosts, Costs, Spread
from app.domain.comparison.fairness.confounders import ConfounderKind
from app.domain.comparison.model import AnyComparison, ArmResult
from app.domain.comparison.runs import RunArm, RunComparison
from app.domain.comparison.statistics.intervals import Difference, ScoreInterval
from app.domain.comparison.statistics.proportions import UnpairedDifference
from app.domain.comparison.statistics.verdict import Basis, Reason, VerdictKind
from app.domain.comparison.study import StudyArm, StudyComparison
from app.domain.methods import Family
from app.domain.studies.power import RequiredSample
from app.domain.studies.tuning.arm_tuning import Rival
from app.domain.studies.tuning.search_space import Configuration, Parameter, SearchSpace
from app.domain.studies.tuning.trials import Trial
from app.domain.studies.tuning.tuning import BudgetUnit
from app.web.api.answer import Answer
from app.words.runs.failures import failure_label
from app.words.studies.tuning import search_summary
from app.words.verdict.needs import needs_label
from app.words.verdict.verdict import unusable_text, verdict_label, verdict_reason, verdict_sentence


def _ends(interval: ScoreInterval | Difference | UnpairedDifference | None) -> dict[str, float | None]:
    """None where the interval carries no information."""
    known = interval is not None and interval.usable
    return {"low": interval.low if interval and known else None, "high": interval.high if interval and known else None}


class ScoreOut(Answer):
    """A mean with its 95 % interval."""

    mean: float
    low: float | None
    """Clipped at the range of the score, as `high`; null where the interval is not usable."""
    high: float | None
    seeds: int
    items: int | None
    usable: bool
    """False if the interval was wider than the range of the score before it was clipped: it carries no information."""
    note: str
    """Why the interval is not usable: `1 seed and 3 test items give no usable interval`."""

    @classmethod
    def of(cls, score: ScoreInterval | None) -> Self | None:
        return cls.from_object(score, **_ends(score), note=unusable_text(score)) if score else None


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
    low: float | None
    """Clipped at −1, as `high` at 1; null where the interval is not usable."""
    high: float | None
    confidence: float | None
    usable: bool
    """False without an interval, or if it is wider than the range of a difference."""
    needs: RequiredSample | None
    """Seeds or test items that would decide with ~50 % power."""
    would_decide: str
    """The same in words: `3 more seeds would decide, if the difference stays`; empty where it is decided."""

    @classmethod
    def of(cls, comparison: AnyComparison, arm: ArmResult) -> Self | None:
        """None for the reference."""
        verdict, difference = arm.verdict, arm.difference
        if verdict is None:
            return None
        return cls.from_object(
            verdict,
            **{name: getattr(difference, name, None) for name in ("delta", "confidence")},
            **_ends(difference),
            usable=difference is not None and difference.usable,
            label=verdict_label(verdict),
            sentence=verdict_sentence(comparison, arm),
            explanation=verdict_reason(comparison, arm),
            would_decide=needs_label(arm),
        )


class ArmOut(Answer):
    """An arm: runs that differ only by their seed."""

    title: str
    method: str
    family: Family
    reference: bool
    runs: list[int]
    statuses: dict[str, int]
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
    reported: bool
    """Its runs were trained elsewhere, and their scripts reported them to a declared study."""
    costs: ArmCosts
    settings: Mapping[str, str]

    @classmethod
    def of(cls, comparison: RunComparison, arm: RunArm) -> Self:
        return cls.from_arm(comparison, arm, method=arm.first.method, settings=arm.first.settings)


class TriedOut(Answer):
    """A configuration that an arm tried in a round; mean over its seeds, on the validation split."""

    configuration: Configuration
    learning_rate: float = Field(validation_alias="rate")
    """That it trained at, searched or not."""
    round: int
    score: float | None
    """None if the metric needs generated text, or no trial succeeded."""
    loss: float | None
    trials: list[Annotated[int, BeforeValidator(lambda trial: trial.run_id if isinstance(trial, Trial) else trial)]]
    """Ids of the runs."""
    failed: int = Field(validation_alias="lost")


class TuningOut(Answer):
    """The search for an arm's hyperparameters."""

    space: SearchSpace
    unit: BudgetUnit
    budget: float
    """In the unit, the same for every arm."""
    used: float
    """Used part of the budget."""
    chosen: Configuration | None
    """None until it is chosen."""
    edges: dict[Parameter, Literal["smallest", "largest"]]
    """The hyperparameters whose chosen value is at an end of the search: a better value may lie beyond it."""
    rival: Rival | None
    """The closest of the configurations that are not significantly worse than the chosen one."""
    failed: bool
    """Every trial of a round failed: the arm has no runs."""
    steps: int
    tokens: int
    seconds: float
    """Seconds that its trials occupied a device."""
    tried: list[TriedOut]
    summary: str
    """Space, use and choice in words."""

    @classmethod
    def of(cls, arm: StudyArm) -> Self | None:
        """None without tuning."""
        return cls.from_object(arm.tuning, summary=search_summary(arm)) if arm.tuning else None


class StudyArmOut(ArmOut):
    """An arm of a study."""

    learning_rate: float
    configuration: Configuration
    """The hyperparameters that tuning chose; empty without tuning."""
    tuning: TuningOut | None
    """None without tuning."""
    stopped: bool
    costs: Costs | None
    forgetting: Spread | None
    """Rise of the loss on general text, nats per token."""
    above_baseline: ScoreOut | None
    """Its score minus that of the best baseline; None without a result of both on the same items."""

    @classmethod
    def of(cls, study: StudyComparison, arm: StudyArm) -> Self:
        return cls.from_arm(
            study,
            arm,
            method=arm.spec.method.kind,
            tuning=TuningOut.of(arm),
            above_baseline=ScoreOut.of(arm.above_baseline),
        )
