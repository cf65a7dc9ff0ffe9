"""Pushes of exports to the Hugging Face hub: requests to a worker, and what became of them."""

from datetime import datetime

from sqlalchemy import ForeignKey, String, false
from sqlalchemy.orm import Mapped, mapped_column

from app.domain.models.hub_push import MAX_REPOSITORY_LENGTH
from app.domain.models.registry import MAX_REASON_LENGTH
from app.store.tables.base import IDS_ARE_NEVER_REUSED, Base, now


class HubPushRow(Base):
    """An export that goes to a repository of the hub. Its claim is that of an export (`ModelExportRow`)."""

    __tablename__ = "hub_pushes"
    __table_args__ = IDS_ARE_NEVER_REUSED

    id: Mapped[int] = mapped_column(primary_key=True)
    export_id: Mapped[int] = mapped_column(ForeignKey("model_exports.id", ondelete="CASCADE"), index=True)
    repository: Mapped[str] = mapped_column(String(MAX_REPOSITORY_LENGTH))
    private: Mapped[bool] = mapped_column(default=True)
    reason: Mapped[str] = mapped_column(String(MAX_REASON_LENGTH), default="")
    """Why an export that has not passed its gate is published."""
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"), default=None)
    """The user that pushes; None where Vezna runs for a single user."""
    own_token: Mapped[bool] = mapped_column(default=False, server_default=false())
    """The user had a hub token when it was submitted, so no other token pushes it."""
    card: Mapped[str]
    """The model card, as it was shown."""
    receipt: Mapped[str] = mapped_column(default="")
    """The signed receipt; empty where none could be signed."""
    status: Mapped[str] = mapped_column(String(20), default="queued", index=True)
    epoch: Mapped[int] = mapped_column(default=0)
    attempts: Mapped[int] = mapped_column(default=0)
    progress: Mapped[float] = mapped_column(default=0.0)
    message: Mapped[str] = mapped_column(default="")
    """Why it failed."""
    commit: Mapped[str] = mapped_column(String(64), default="")
    """On the hub, once it has succeeded."""
    url: Mapped[str] = mapped_column(default="")
    """Of the repository."""
    created_at: Mapped[datetime] = mapped_column(default=now)
    started_at: Mapped[datetime | None] = mapped_column(default=None)
    ended_at: Mapped[datetime | None] = mapped_column(default=None)
    seen_at: Mapped[datetime | None] = mapped_column(default=None)
    rung_at: Mapped[datetime | None] = mapped_column(default=None)
