"""Judgements: requests to a worker to have a judge model score the answers of a study's runs, and the scores."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from app.domain.comparison.statistics.judged import Judged
from app.domain.models.server_address import MAX_MODEL_LENGTH, MAX_URL_LENGTH
from app.store.database.base import IDS_ARE_NEVER_REUSED, Base, now
from app.store.database.owned import Asked
from app.store.database.seen import OF_STUDY, BelongsTo
from app.store.workers.tables import WorkRow


class JudgementRow(Asked, WorkRow):
    """A judge model that scores the answers of a study's runs."""

    __tablename__ = "judgements"
    seen = OF_STUDY
    __table_args__ = IDS_ARE_NEVER_REUSED

    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id", ondelete="CASCADE"), index=True)
    url: Mapped[str] = mapped_column(String(MAX_URL_LENGTH))
    """Base URL of the server."""
    model: Mapped[str] = mapped_column(String(MAX_MODEL_LENGTH))
    """The judge's name there."""
    api_key: Mapped[str] = mapped_column(default="")
    """Encrypted; empty without a key, and once the judgement has ended."""
    rubric: Mapped[str]
    sample: Mapped[int]
    """The most test items."""
    result_json: Mapped[dict[str, Any] | None] = mapped_column(default=None)

    @property
    def result(self) -> Judged | None:
        """None before it has succeeded."""
        return Judged.model_validate(self.result_json) if self.result_json else None


class JudgeScoreRow(Base):
    """What a judge replied about an answer, so that it is not asked again."""

    __tablename__ = "judge_scores"
    seen = OF_STUDY
    __table_args__ = (
        Index("ix_judge_scores_known", "study_id", "key"),
        Index("uq_judge_scores_asked", "judgement_id", "key", unique=True),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    judgement_id: Mapped[int] = mapped_column(ForeignKey("judgements.id", ondelete="CASCADE"))
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id", ondelete="CASCADE"))
    key: Mapped[str] = mapped_column(String(64))
    """SHA-256 of address, model, rubric and answer (`app.features.judging.rules.key_of`)."""
    score: Mapped[int | None] = mapped_column(default=None)
    said: Mapped[str] = mapped_column(default="")
    """What it wrote instead of a score, cut."""


class BlindRatingRow(Base):
    """Which of two runs' answers to a test item a person prefers; the lower run id is the first."""

    __tablename__ = "blind_ratings"
    seen = BelongsTo("runs", "first_id")
    __table_args__ = (Index("ix_blind_ratings_pair", "first_id", "second_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    first_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"))
    second_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), index=True)
    item: Mapped[str]
    preferred: Mapped[str] = mapped_column(String(20))
    """`first`, `second` or `tie`."""
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"), default=None)
    """The rater; None where Vezna runs for a single user."""
    created_at: Mapped[datetime] = mapped_column(default=now)
