"""What learners did in the Lab. A learner is a user's key (`Identity.owner`), empty where there is no login."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.domain.studies.spec import StudySpec
from app.features.lab.rules.classes import MAX_NAME
from app.store.database.base import IDS_ARE_NEVER_REUSED, Base, now
from app.store.database.owned import Transferred
from app.store.database.seen import UNFILTERED


class LabCardRow(Base):
    """A question that a learner has rated, and when it is due again."""

    __tablename__ = "lab_cards"
    seen = UNFILTERED
    __table_args__ = (Index(None, "learner", "due_at"),)

    learner: Mapped[str] = mapped_column(String(40), primary_key=True)
    question: Mapped[str] = mapped_column(String(60), primary_key=True)
    card_json: Mapped[dict[str, Any]]
    """The scheduler's state (`app.features.lab.rules.review`)."""
    due_at: Mapped[datetime]
    reviews: Mapped[int] = mapped_column(default=1)
    first_at: Mapped[datetime] = mapped_column(default=now)


class LabAnswerRow(Base):
    """An answer. Rows stay, so that a teacher can see which answers are often wrong."""

    __tablename__ = "lab_answers"
    seen = UNFILTERED
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
    seen = UNFILTERED

    learner: Mapped[str] = mapped_column(String(40), primary_key=True)
    topic: Mapped[str] = mapped_column(String(20), primary_key=True)
    finished_at: Mapped[datetime] = mapped_column(default=now)


class LabClassRow(Transferred, Base):
    """A class. Only its teacher and admins see it; learners reach it by its link."""

    __tablename__ = "lab_classes"
    seen = UNFILTERED
    """`app.features.lab.services.classes.taught` filters."""
    holder = "teacher_id"
    __table_args__ = IDS_ARE_NEVER_REUSED

    id: Mapped[int] = mapped_column(primary_key=True)
    teacher_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"), default=None, index=True)
    """None where Vezna runs for a single user."""
    name: Mapped[str] = mapped_column(String(MAX_NAME))
    code: Mapped[str] = mapped_column(String(40), unique=True)
    """Of the link by which learners join: random, and enough to join."""
    created_at: Mapped[datetime] = mapped_column(default=now)


class LabMemberRow(Base):
    """A learner in a class, and what the learner lets the teacher see."""

    __tablename__ = "lab_members"
    seen = UNFILTERED
    __table_args__ = (UniqueConstraint("class_id", "name"),)

    class_id: Mapped[int] = mapped_column(ForeignKey("lab_classes.id", ondelete="CASCADE"), primary_key=True)
    learner: Mapped[str] = mapped_column(String(40), primary_key=True, index=True)
    name: Mapped[str] = mapped_column(String(MAX_NAME))
    """Shown to the teacher; unique in the class."""
    shares_progress: Mapped[bool] = mapped_column(default=False)
    shares_answers: Mapped[bool] = mapped_column(default=False)
    joined_at: Mapped[datetime] = mapped_column(default=now)


class LabClassStudyRow(Base):
    """The study that every learner of a class runs with a seed of their own. It is fixed before the first seed."""

    __tablename__ = "lab_class_studies"
    seen = UNFILTERED

    class_id: Mapped[int] = mapped_column(ForeignKey("lab_classes.id", ondelete="CASCADE"), primary_key=True)
    spec_json: Mapped[dict[str, Any]]
    """A `StudySpec`; its seeds are not used."""
    base_model_id: Mapped[int]
    dataset_id: Mapped[int]
    """With which it was checked: a seed on others is refused. No foreign keys, so that either can be deleted."""
    planned_seeds: Mapped[int]
    """Complete seeds that give the verdict, the first ones by time."""
    next_seed: Mapped[int] = mapped_column(default=0)
    verdicts_json: Mapped[list[list[int]]] = mapped_column(default=list)
    """The seeds of each verdict that was taken, the last one in force. A verdict is taken back when one of its seeds is
    withdrawn; the next is an interim look."""
    created_at: Mapped[datetime] = mapped_column(default=now)

    @property
    def spec(self) -> StudySpec:
        """What is run."""
        return StudySpec.model_validate(self.spec_json)


class LabClassSeedRow(Base):
    """A seed of a class's study, which a learner has started. It stays when it is withdrawn, so that its number is seen
    and not used again."""

    __tablename__ = "lab_class_seeds"
    seen = UNFILTERED
    __table_args__ = (UniqueConstraint("class_id", "learner"),)

    class_id: Mapped[int] = mapped_column(
        ForeignKey("lab_class_studies.class_id", ondelete="CASCADE"), primary_key=True
    )
    seed: Mapped[int] = mapped_column(primary_key=True)
    learner: Mapped[str | None] = mapped_column(String(40), default=None)
    """Stays when the learner leaves the class, so that joining again gives no second seed."""
    study_id: Mapped[int | None] = mapped_column(
        ForeignKey("studies.id", ondelete="SET NULL"), default=None, index=True
    )
    """The learner's own study with this one seed; None once it is deleted, or its learner has left."""
