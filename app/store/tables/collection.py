"""Collections: results from elsewhere, brought in together, and studies whose runs are trained elsewhere."""

from datetime import datetime
from typing import Any

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from app.domain.imports.declared import ExternalStudySpec
from app.store.tables.base import IDS_ARE_NEVER_REUSED, Base, now
from app.store.tables.owned import Owned


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
