"""Pushes of exports to the Hugging Face hub: requests to a worker, and what became of them."""

from sqlalchemy import ForeignKey, String, false
from sqlalchemy.orm import Mapped, mapped_column

from app.domain.models.hub_push import MAX_REPOSITORY_LENGTH
from app.domain.models.registry import MAX_REASON_LENGTH
from app.store.tables.base import IDS_ARE_NEVER_REUSED
from app.store.tables.work import WorkRow


class HubPushRow(WorkRow):
    """An export that goes to a repository of the hub."""

    __tablename__ = "hub_pushes"
    __table_args__ = IDS_ARE_NEVER_REUSED

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
    commit: Mapped[str] = mapped_column(String(64), default="")
    """On the hub, once it has succeeded."""
    url: Mapped[str] = mapped_column(default="")
    """Of the repository."""
