"""Users' tokens of the Hugging Face hub."""

from datetime import datetime

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from app.store.tables.base import Base, now


class HubTokenRow(Base):
    """The token with which workers load and push what is this user's."""

    __tablename__ = "hub_tokens"

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    token: Mapped[str] = mapped_column(String(1000))
    """Encrypted (`app.services.vault`)."""
    hint: Mapped[str] = mapped_column(String(4))
    """Its last characters."""
    created_at: Mapped[datetime] = mapped_column(default=now)
