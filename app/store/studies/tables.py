"""Studies."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from app.domain.imports.declared import ExternalStudySpec
from app.domain.runs.listing.annotations import MAX_TAG_LENGTH
from app.domain.studies.spec import StudySpec
from app.store.database.base import IDS_ARE_NEVER_REUSED, Base, now
from app.store.database.owned import Owned
from app.store.database.queued import Queued
from app.store.database.seen import OF_RUN, OF_STUDY


class StudyRow(Owned, Queued, Base):
    """A study. Its status is not stored, but follows from its runs (`domain.studies.status_of`)."""

    __tablename__ = "studies"
    __table_args__ = IDS_ARE_NEVER_REUSED

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(120))
    base_model_id: Mapped[int] = mapped_column(ForeignKey("base_models.id"), index=True)
    dataset_id: Mapped[int] = mapped_column(ForeignKey("datasets.id"), index=True)
    spec_json: Mapped[dict[str, Any]]
    tuning: Mapped[bool] = mapped_column(default=False)
    """Learning rates are still being looked for: when a trial ends, more is to be queued."""
    stopped_json: Mapped[list[str]] = mapped_column(default=list)
    reserved_json: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default="{}")
    """Device-seconds that are predicted for runs that follow from tuning and are not queued yet, by arm. They are
    reserved while `tuning`."""
    interim_looks: Mapped[int] = mapped_column(default=0)
    """How often seeds were added, or planned runs cancelled, when results could be seen:
    `app.domain.comparison.statistics.verdict.confidence_after`."""
    note: Mapped[str] = mapped_column(default="")
    """A person's note; tags are in study_tags."""
    archived: Mapped[bool] = mapped_column(default=False)
    """Lists hide the study and its runs by default."""
    created_at: Mapped[datetime] = mapped_column(default=now)

    @property
    def spec(self) -> StudySpec:
        return StudySpec.model_validate(self.spec_json)


class CollectionRow(Owned, Base):
    """A name under which runs from elsewhere lie together: imported ones, or those of a declared study."""

    __tablename__ = "collections"
    __table_args__ = IDS_ARE_NEVER_REUSED

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(120), unique=True)
    created_at: Mapped[datetime] = mapped_column(default=now)
    declared_json: Mapped[dict[str, Any] | None] = mapped_column(default=None)
    """What a study that is trained elsewhere fixed before its runs (`ExternalStudySpec`); None of imported results."""

    @property
    def declared(self) -> ExternalStudySpec | None:
        """What the study fixed; None of imported results."""
        return ExternalStudySpec.model_validate(self.declared_json) if self.declared_json else None


class RunTagRow(Base):
    __tablename__ = "run_tags"
    seen = OF_RUN

    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    tag: Mapped[str] = mapped_column(String(MAX_TAG_LENGTH), primary_key=True, index=True)


class StudyTagRow(Base):
    """A tag of a study, which its runs have too."""

    __tablename__ = "study_tags"
    seen = OF_STUDY

    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id", ondelete="CASCADE"), primary_key=True)
    tag: Mapped[str] = mapped_column(String(MAX_TAG_LENGTH), primary_key=True, index=True)
