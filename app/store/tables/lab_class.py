"""Classes of the Lab, and the learners who have joined them."""

from datetime import datetime

from sqlalchemy import ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.domain.lab.classes import MAX_NAME
from app.store.tables.base import IDS_ARE_NEVER_REUSED, Base, now


class LabClassRow(Base):
    """A class. Only its teacher and admins see it; learners reach it by its link."""

    __tablename__ = "lab_classes"
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
    __table_args__ = (UniqueConstraint("class_id", "name"),)

    class_id: Mapped[int] = mapped_column(ForeignKey("lab_classes.id", ondelete="CASCADE"), primary_key=True)
    learner: Mapped[str] = mapped_column(String(40), primary_key=True, index=True)
    name: Mapped[str] = mapped_column(String(MAX_NAME))
    """Shown to the teacher; unique in the class."""
    shares_progress: Mapped[bool] = mapped_column(default=False)
    shares_answers: Mapped[bool] = mapped_column(default=False)
    joined_at: Mapped[datetime] = mapped_column(default=now)
