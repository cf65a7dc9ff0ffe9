"""Comparisons as JSON, with the numbers and the sentences of the pages. Fractions, bytes and seconds."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, Self

from fastapi import APIRouter

from app.domain.comparison.baselines import BaselineResult, strongest
from app.domain.comparison.fairness.conditions import Knowledge
from app.domain.comparison.fairness.confounders import ConditionName, Confounder, ConfounderKind, Effect
from app.domain.comparison.learning.causes import NO_CAUSES, Causes
from app.domain.comparison.model import AnyComparison
from app.domain.comparison.runs import RunComparison
from app.domain.comparison.statistics.verdict import McNemar
from app.domain.comparison.study import StudyComparison
from app.domain.data.baselines import BaselineKind
from app.domain.studies.alternative import Alternative
from app.services.comparison import compare as compare_service
from app.web.api.answer import Answer
from app.web.api.studies.arms import RunArmOut, ScoreOut, StudyArmOut
from app.web.api.studies.judged import JudgedArmOut, JudgementsOut
from app.web.api.studies.learning import LearningOut
from app.web.http.dependencies import Reading
from app.web.http.errors import problems
from app.web.http.queries.compare import SelectedRuns
from app.words.i18n import gettext, localized
from app.words.studies.tuning import search_text
from app.words.verdict import confounders as confounder_words
from app.words.verdict.caveats import caveats
from app.words.verdict.headline import headline, phrase, runs_headline, runs_lead, summary
from app.words.verdict.lead import lead
from app.words.verdict.verdict import plus_minus_text

router = APIRouter(tags=["compare"])


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
    status: Literal["working", "ready", "failed", "not_applicable"]
    message: str
    """Why it could not be computed, or does not apply to the study."""
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
        return cls.from_object(
            result.stored,
            message=localized(result.stored.message),
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
    """Metric of every score and verdict."""
    margin: float
    """As a fraction: 0.02 is two points."""
    alternative: Alternative
    """What the verdicts test against the margin: `non-inferiority` or `equivalence`."""
    confidence: float
    """Joint confidence of all verdicts: 0.95, higher after each interim look."""
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


class StatedConditionOut(Answer):
    """A condition of training or measurement, as far as the runs state it."""

    name: ConditionName
    knowledge: Knowledge
    """`equal` and `differs` are known; `unknown` if a run does not state it."""
    values: dict[str, str]
    """By arm; empty where it is unknown."""


class RunComparisonOut(ComparisonOut):
    """Any runs, compared."""

    scores_comparable: bool
    arms: list[RunArmOut]
    clusters: int | None
    """Groups of the test items that arms are judged by, which the intervals count as evidence; null where each item is
    its own."""
    mcnemar: McNemar | None
    conditions: list[StatedConditionOut]
    """What a verdict rests on comes first."""
    differing_settings: dict[str, tuple[str, ...]]
    """Settings that differ between arms, with the value of each arm."""

    @classmethod
    def of(cls, comparison: RunComparison) -> Self:
        return cls.from_comparison(
            comparison,
            headline=runs_headline(comparison),
            lead=runs_lead(comparison),
            arms=[RunArmOut.of(comparison, arm) for arm in comparison.arms],
            conditions=[StatedConditionOut.from_object(one) for one in comparison.conditions],
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
    clusters: int | None
    """Groups of test items with equal inputs, which the intervals count as evidence; null where all inputs differ."""
    base_score: ScoreOut | None
    """The base model's score before training."""
    baselines: list[BaselineOut]
    best_baseline: str
    """Title of the one with the highest score, which `above_baseline` of an arm is about; empty without one."""
    learning: LearningOut
    """Does fine-tuning help at all? After a no, the arms are not tested."""
    arms: list[StudyArmOut]
    search: str
    """The kind and the budget of the search for hyperparameters; empty without tuning."""
    differed: dict[ConditionName, dict[str, str]]
    """Conditions that differ between arms, and their values."""
    judged: list[JudgedArmOut]
    """The arms by the newest scores of a judge model, which the verdict does not depend on; empty without any."""
    judgements: JudgementsOut | None
    """With a result: `judged` is the newest of them; null without any."""

    @classmethod
    def of(
        cls,
        study_id: int,
        study: StudyComparison,
        causes: Causes = NO_CAUSES,
        added: Mapping[str, object] = MappingProxyType({}),
    ) -> Self:
        """From the domain; `causes` where nothing was learned, `added`: the fields of features."""
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
            best_baseline=gettext(best.title) if (best := strongest(study.baselines)) else "",
            learning=LearningOut.of(study_id, study, causes),
            arms=[StudyArmOut.of(study, arm) for arm in study.arms],
            search=search_text(study.spec),
            differed={condition.name: condition.values for condition in study.conditions if not condition.equal},
            **{"judged": [], "judgements": None, **added},
        )


@router.get("/compare", operation_id="compareRuns", responses=problems(404, 422))
def compare(session: Reading, selection: SelectedRuns) -> RunComparisonOut:
    """Compare any runs, of one study or of several, trained here or imported. Runs that differ only by their seed are
    one arm. `confounders` lists what makes the arms incomparable, each with its consequence."""
    return RunComparisonOut.of(compare_service.compare(session, selection).strict)
