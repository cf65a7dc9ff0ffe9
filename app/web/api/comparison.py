"""A comparison as JSON: the same numbers as on the study page. Fractions, bytes and seconds."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict

from app.domain.comparison.costs import Costs, Spread
from app.domain.comparison.study import StudyArm, StudyComparison
from app.domain.comparison.verdict import ArmVerdict, ScoreInterval, VerdictKind
from app.domain.studies.arm_tuning import ArmTuning
from app.domain.tasks import MetricName
from app.web.text import caveats, phrase
from app.web.text.summary import plain


class EstimateOut(BaseModel):
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float
    seeds: int
    items: int

    @classmethod
    def of(cls, found: ScoreInterval) -> Self:
        """From the domain."""
        return cls(mean=found.mean, low=found.low, high=found.high, seeds=found.seeds, items=found.items)


class SeedsAndItems(BaseModel):
    """Seeds an arm, and test items."""

    seeds: int
    items: int


class VerdictOut(BaseModel):
    """An arm against the reference; the interval is corrected for the number of arms (Holm)."""

    kind: VerdictKind
    reason: str
    delta: float | None
    low: float | None
    high: float | None
    confidence: float | None
    needed_seeds: int | None
    """Seeds an arm that would decide at the variances seen."""
    needed_items: int | None
    """Test items that would decide with the present seeds."""
    needed_together: SeedsAndItems | None
    """Both, of a new study, where neither would decide alone."""

    @classmethod
    def of(cls, found: ArmVerdict) -> Self:
        """From the domain."""
        seen, needs = found.difference, found.needs
        return cls(
            kind=found.kind,
            reason=found.reason,
            delta=seen.delta if seen else None,
            low=seen.low if seen else None,
            high=seen.high if seen else None,
            confidence=seen.confidence if seen else None,
            needed_seeds=needs.seeds if needs else None,
            needed_items=needs.items if needs else None,
            needed_together=SeedsAndItems(seeds=needs.both[0], items=needs.both[1]) if needs and needs.both else None,
        )


class SpreadOut(BaseModel):
    """A number over the succeeded seeds."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, found: Spread) -> Self:
        """From the domain."""
        return cls(mean=found.mean, low=found.low, high=found.high)


class CostsOut(BaseModel):
    """What an arm cost, mean over its succeeded seeds."""

    peak_bytes: float
    weights_bytes: float
    gradients_bytes: float
    optimizer_bytes: float
    rest_bytes: float
    train_seconds: float
    wall_seconds: float
    clocks: dict[str, float]
    tokens_per_second: float
    trainable_parameters: int
    total_parameters: int
    artifact_bytes: int

    @classmethod
    def of(cls, found: Costs) -> Self:
        """From the domain."""
        means = {name: getattr(found, name).mean for name in ("peak_bytes", "train_seconds", "wall_seconds")}
        plain = {name: getattr(found, name) for name in cls.model_fields if name not in means}
        return cls(**means, **plain)


class TriedOut(BaseModel):
    """A rate that an arm tried in a round, mean over its seeds, on the validation split."""

    learning_rate: float
    round: int
    score: float | None
    """None where the metric needs generated text, or no trial ended well."""
    loss: float | None
    trials: list[int]
    """Ids of the runs."""
    failed: int


class RivalOut(BaseModel):
    """Another rate, which the validation split cannot tell from the chosen one; differences are fractions."""

    model_config = ConfigDict(from_attributes=True)

    rate: float
    behind: float
    within: float
    """Differences up to this one are chance."""
    items: int


class TuningOut(BaseModel):
    """How an arm's rate was looked for."""

    chosen: float | None
    """None while there is none."""
    edge: Literal["smallest", "largest"] | None
    """The chosen rate is an end of those tried: a better one may lie beyond."""
    rival: RivalOut | None
    """The closest of the rates that could as well be the best; None where the best is told apart."""
    failed: bool
    """Every trial of a round failed: the arm has no runs."""
    steps: int
    tokens: int
    tried: list[TriedOut]

    @classmethod
    def of(cls, found: ArmTuning) -> Self:
        """From the domain."""
        tried = [
            TriedOut(
                learning_rate=one.rate,
                round=one.round,
                score=one.score,
                loss=one.loss,
                trials=[trial.run_id for trial in one.trials],
                failed=one.lost,
            )
            for one in found.tried
        ]
        return cls(
            chosen=found.chosen,
            edge=found.edge,
            rival=RivalOut.model_validate(found.rival) if found.rival else None,
            failed=found.hopeless,
            steps=found.steps,
            tokens=found.tokens,
            tried=tried,
        )


class ArmOut(BaseModel):
    """An arm, its score, its costs and its verdict."""

    name: str
    method: str
    reference: bool
    learning_rate: float
    tuning: TuningOut | None
    """None where rates were not looked for."""
    stopped: bool
    runs: dict[str, int]
    """How many runs are in each state."""
    score: EstimateOut | None
    """Of the comparison's metric."""
    verdict: VerdictOut | None
    costs: CostsOut | None
    forgetting: SpreadOut | None
    """Loss on general text less the untouched model's, nats per token: above zero, something was forgotten."""

    @classmethod
    def of(cls, arm: StudyArm) -> Self:
        """From the domain."""
        states = [run.status.value for run in arm.runs]
        return cls(
            name=arm.title,
            method=arm.spec.method.kind,
            reference=arm.is_reference,
            learning_rate=arm.learning_rate,
            tuning=TuningOut.of(arm.tuning) if arm.tuning else None,
            stopped=arm.stopped,
            runs={state: states.count(state) for state in dict.fromkeys(states)},
            score=EstimateOut.of(arm.score) if arm.score else None,
            verdict=VerdictOut.of(arm.verdict) if arm.verdict else None,
            costs=CostsOut.of(arm.costs) if arm.costs else None,
            forgetting=SpreadOut.of(arm.forgetting) if arm.forgetting else None,
        )


class ComparisonOut(BaseModel):
    """A study weighed."""

    study_id: int
    name: str
    phrase: str
    """The verdict in a phrase."""
    sentence: str
    """The answer in plain words: the verdict, its interval, and what the arm needs."""
    caveats: list[str]
    """What keeps the verdict from being more than it is, the gravest first: rates that were not tuned, runs that
    failed, times that do not compare."""
    complete: bool
    metric: MetricName
    """What every score is, and the verdict rests on."""
    margin: float
    """As a fraction: 0.02 is two points."""
    looks: int
    """How often seeds were added when results could be seen."""
    confidence: float
    """Of all verdicts together: 0.95, and after each look nearer to 1."""
    items: int | None
    untouched: EstimateOut | None
    arms: list[ArmOut]
    differed: dict[str, dict[str, str]]
    """Conditions that were not the same for every arm, and their values."""
    times_comparable: bool
    memory_comparable: bool

    @classmethod
    def of(cls, study_id: int, found: StudyComparison) -> Self:
        """From the domain."""
        return cls(
            study_id=study_id,
            name=found.spec.name,
            phrase=phrase(found),
            sentence=plain(found),
            caveats=[caveat.text for caveat in caveats(found)],
            complete=found.complete,
            metric=found.metric,
            margin=found.spec.margin_points / 100,
            looks=found.interim_looks,
            confidence=found.confidence,
            items=found.items,
            untouched=EstimateOut.of(found.base_score) if found.base_score else None,
            arms=[ArmOut.of(arm) for arm in found.arms],
            differed={c.name: c.values for c in found.conditions if not c.equal},
            times_comparable=found.times_comparable,
            memory_comparable=found.memory_comparable,
        )
