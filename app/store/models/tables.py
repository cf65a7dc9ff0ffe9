"""Base models that were registered and inspected."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from app.domain.models.base_model import ModelFacts
from app.store.database.base import IDS_ARE_NEVER_REUSED, Base, now
from app.store.database.owned import Located
from app.store.database.seen import UNFILTERED


class BaseModelRow(Located, Base):
    """A pretrained model under a name; `facts` is there once `status` is `ready`."""

    __tablename__ = "base_models"
    __table_args__ = IDS_ARE_NEVER_REUSED

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    revision: Mapped[str] = mapped_column(String(120), default="")
    """As it was registered: a branch, a tag, a commit; empty for the newest."""
    status: Mapped[str] = mapped_column(String(20), default="inspecting")
    message: Mapped[str] = mapped_column(default="")
    facts_json: Mapped[dict[str, Any] | None] = mapped_column(default=None)
    inspection_started_at: Mapped[datetime | None] = mapped_column(default=None)
    created_at: Mapped[datetime] = mapped_column(default=now)

    @property
    def facts(self) -> ModelFacts | None:
        return ModelFacts.model_validate(self.facts_json) if self.facts_json else None

    @property
    def restricted(self) -> bool:
        """The hub gave it to its owner's token only."""
        return bool((self.facts_json or {}).get("restricted"))

    @property
    def pinned(self) -> str:
        """The commit, or the hash of a directory's files, that was inspected and that every run loads. Until then what
        was registered."""
        return str((self.facts_json or {}).get("revision") or self.revision)


class HubTokenRow(Base):
    """The token with which workers load and push what is this user's."""

    __tablename__ = "hub_tokens"
    seen = UNFILTERED

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    token: Mapped[str] = mapped_column(String(1000))
    """Encrypted (`app.services.ownership.vault`)."""
    hint: Mapped[str] = mapped_column(String(4))
    """Its last characters."""
    created_at: Mapped[datetime] = mapped_column(default=now)
