"""Studies."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from app.domain.studies import StudySpec
from app.store.tables.base import Base, now


class StudyRow(Base):
    """A study; its runs are in `runs`. `status` follows them: queued, running, finished or cancelled."""

    __tablename__ = "studies"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(120))
    base_model_id: Mapped[int] = mapped_column(ForeignKey("base_models.id"), index=True)
    dataset_id: Mapped[int] = mapped_column(ForeignKey("datasets.id"), index=True)
    spec_json: Mapped[dict[str, Any]]
    status: Mapped[str] = mapped_column(String(20), default="queued", index=True)
    created_at: Mapped[datetime] = mapped_column(default=now)
    finished_at: Mapped[datetime | None] = mapped_column(default=None)

    @property
    def spec(self) -> StudySpec:
        """What was asked for."""
        return StudySpec.model_validate(self.spec_json)
