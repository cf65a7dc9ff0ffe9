"""What learners did in the Lab. A learner is a user's key (`Identity.owner`), empty where there is no login."""

from datetime import datetime
from typing import Any

from sqlalchemy import Index, String
from sqlalchemy.orm import Mapped, mapped_column

from app.store.tables.base import Base, now


class LabCardRow(Base):
    """A question that a learner has rated, and when it is due again."""

    __tablename__ = "lab_cards"
    __table_args__ = (Index(None, "learner", "due_at"),)

    learner: Mapped[str] = mapped_column(String(40), primary_key=True)
    question: Mapped[str] = mapped_column(String(60), primary_key=True)
    card_json: Mapped[dict[str, Any]]
    """The scheduler's state (`app.domain.lab.review`)."""
    due_at: Mapped[datetime]
    reviews: Mapped[int] = mapped_column(default=1)
    first_at: Mapped[datetime] = mapped_column(default=now)


class LabAnswerRow(Base):
    """An answer. Rows stay, so that a teacher can see which answers are often wrong."""

    __tablename__ = "lab_answers"
    __table_args__ = (Index(None, "learner", "question"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    learner: Mapped[str] = mapped_column(String(40))
    question: Mapped[str] = mapped_column(String(60))
    given_json: Mapped[list[str]]
    """What was chosen (places from 0), ordered (ranks), or entered."""
    facts_json: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """Of a question about the learner's runs: what they were when it was answered."""
    right: Mapped[bool | None]
    """None for an open question, which the learner judges."""
    rating: Mapped[int | None] = mapped_column(default=None)
    answered_at: Mapped[datetime] = mapped_column(default=now)


class LabProgressRow(Base):
    """A step or a pitfall that a learner has finished: its question was answered on its page."""

    __tablename__ = "lab_progress"

    learner: Mapped[str] = mapped_column(String(40), primary_key=True)
    topic: Mapped[str] = mapped_column(String(20), primary_key=True)
    finished_at: Mapped[datetime] = mapped_column(default=now)
