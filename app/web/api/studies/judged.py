"""The arms of a study by a judge model, as its comparison and its judgements say it over REST."""

from typing import Self

from pydantic import BaseModel

from app.domain.comparison.statistics.judged import JudgedArm
from app.domain.comparison.statistics.verdict import VerdictKind
from app.web.api.answer import Answer


class JudgeErrorOut(Answer):
    """The judge's error on the difference of an arm to the reference, on items that people rated."""

    items: int
    """Rated ones, and those with equal answers among them, where the judge cannot err."""
    rated: int
    agreed: int
    """Rated items on which the judge agrees with every rating."""
    mean: float
    """Added to the judge's difference."""


class JudgedArmOut(BaseModel):
    """An arm by the judge's scores, from 0 (all 1) to 1 (all 5)."""

    arm: str
    seeds: int
    score: float | None
    score_low: float | None
    """Lower end of the 95 % interval."""
    score_high: float | None
    delta: float | None
    """Arm − reference, with the judge's error where it is known; null for the reference and without an interval."""
    low: float | None
    """Lower end of its interval, within −1 and 1; wider by the judge's error and by items without a score."""
    high: float | None
    confidence: float | None
    judge_delta: float | None
    """As though the judge never erred."""
    error: JudgeErrorOut | None
    """Null: unknown, because people have rated fewer than two items of the arm and the reference."""
    left_out: float
    """Share of the items without a score."""
    margin: float
    verdict: VerdictKind
    """`hint`: one seed, so the interval does not cover other seeds; `implied` is what it says."""
    implied: VerdictKind

    @classmethod
    def of(cls, arm: JudgedArm) -> Self:
        score, corrected = arm.score, arm.corrected
        return cls(
            arm=arm.title,
            seeds=arm.seeds,
            score=score.mean if score else None,
            score_low=score.low if score else None,
            score_high=score.high if score else None,
            delta=corrected.delta if corrected else None,
            low=arm.low if corrected else None,
            high=arm.high if corrected else None,
            confidence=corrected.confidence if corrected else None,
            judge_delta=arm.alone.delta if arm.alone else None,
            error=JudgeErrorOut.from_object(arm.error) if arm.error else None,
            left_out=arm.left_out,
            margin=arm.margin,
            verdict=arm.verdict,
            implied=arm.implied,
        )


class JudgementsOut(BaseModel):
    """How many judgements of a study have a result, by how many models and rubrics."""

    number: int
    models: int
    rubrics: int
