"""Webhooks, and the messages that are to be delivered."""

from datetime import datetime

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from app.features.webhooks.rules import MAX_URL_LENGTH, WebhookEvent
from app.store.database.base import IDS_ARE_NEVER_REUSED, Base, now
from app.store.database.seen import UNFILTERED


class WebhookRow(Base):
    """An address that is told of events."""

    __tablename__ = "webhooks"
    seen = UNFILTERED
    __table_args__ = IDS_ARE_NEVER_REUSED

    id: Mapped[int] = mapped_column(primary_key=True)
    host: Mapped[str] = mapped_column(String(MAX_URL_LENGTH))
    """Host of the address, with its port: what is shown."""
    url: Mapped[str]
    """Encrypted, as `secret`: who knows the address of many services may write to them."""
    event_names: Mapped[list[str]] = mapped_column("events")
    secret: Mapped[str]
    """Encrypted (`app.services.ownership.vault`)."""
    disabled: Mapped[str] = mapped_column(default="")
    """Why nothing is sent; empty while it is enabled."""
    created_at: Mapped[datetime] = mapped_column(default=now)

    @property
    def events(self) -> list[WebhookEvent]:
        """What it is told of."""
        return [WebhookEvent(name) for name in self.event_names]


class WebhookDeliveryRow(Base):
    """A message to a webhook. It is written in the transaction of what it tells of, so neither is lost."""

    __tablename__ = "webhook_deliveries"
    seen = UNFILTERED
    __table_args__ = IDS_ARE_NEVER_REUSED

    id: Mapped[int] = mapped_column(primary_key=True)
    webhook_id: Mapped[int] = mapped_column(ForeignKey("webhooks.id", ondelete="CASCADE"), index=True)
    message_id: Mapped[str] = mapped_column(String(40))
    event: Mapped[str] = mapped_column(String(40))
    body: Mapped[str]
    """JSON, the bytes of every attempt."""
    attempts: Mapped[int] = mapped_column(default=0)
    next_at: Mapped[datetime | None] = mapped_column(index=True)
    """When it is sent next; None once it was delivered."""
    created_at: Mapped[datetime] = mapped_column(default=now)
    delivered_at: Mapped[datetime | None] = mapped_column(default=None)
    last_status: Mapped[int | None] = mapped_column(default=None)
    """HTTP status of the last answer; None without one."""
    message: Mapped[str] = mapped_column(default="")
    """Why the last attempt failed."""
