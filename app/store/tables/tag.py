"""Tags that people give to runs and studies."""

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from app.domain.runs.annotations import MAX_TAG_LENGTH
from app.store.tables.base import Base


class RunTagRow(Base):
    """A tag of a run."""

    __tablename__ = "run_tags"

    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    tag: Mapped[str] = mapped_column(String(MAX_TAG_LENGTH), primary_key=True, index=True)


class StudyTagRow(Base):
    """A tag of a study, which its runs have too."""

    __tablename__ = "study_tags"

    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id", ondelete="CASCADE"), primary_key=True)
    tag: Mapped[str] = mapped_column(String(MAX_TAG_LENGTH), primary_key=True, index=True)
