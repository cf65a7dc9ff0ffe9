"""Judgements: requests to a worker to have a judge model score the answers of a study's runs, and the scores."""

from typing import Any

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from app.domain.comparison.judged import Judged
from app.domain.parity_check import MAX_MODEL_LENGTH, MAX_URL_LENGTH
from app.store.tables.base import IDS_ARE_NEVER_REUSED, Base
from app.store.tables.work import WorkRow


class JudgementRow(WorkRow):
    """A judge model that scores the answers of a study's runs."""

    __tablename__ = "judgements"
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
    owner_id: Mapped[int | None] = mapped_column(default=None)
    """The user who asked for it; its study decides who sees it."""
    result_json: Mapped[dict[str, Any] | None] = mapped_column(default=None)

    @property
    def result(self) -> Judged | None:
        """None before it has succeeded."""
        return Judged.model_validate(self.result_json) if self.result_json else None


class JudgeScoreRow(Base):
    """What a judge replied about an answer, so that it is not asked again."""

    __tablename__ = "judge_scores"
    __table_args__ = (
        Index("ix_judge_scores_known", "study_id", "key"),
        Index("uq_judge_scores_asked", "judgement_id", "key", unique=True),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    judgement_id: Mapped[int] = mapped_column(ForeignKey("judgements.id", ondelete="CASCADE"))
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id", ondelete="CASCADE"))
    key: Mapped[str] = mapped_column(String(64))
    """SHA-256 of address, model, rubric and answer (`app.domain.judgement.key_of`)."""
    score: Mapped[int | None] = mapped_column(default=None)
    said: Mapped[str] = mapped_column(default="")
    """What it wrote instead of a score, cut."""
