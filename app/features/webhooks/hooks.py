"""What services call of webhooks."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from app.features.webhooks import queries, service
from app.features.webhooks.rules import WebhookEvent
from app.features.webhooks.tables import WebhookRow
from app.services.hooks import Event, Hooks


def _secrets(session: Session) -> Iterator[tuple[WebhookRow, str]]:
    for row in queries.all_of_them(session):
        yield row, "secret"
        yield row, "url"


def _told(session: Session, event: Event, data: dict[str, Any], at: datetime | None) -> None:
    service.tell(session, WebhookEvent(event), data, at=at)


HOOKS = Hooks(secrets=_secrets, told=_told)
