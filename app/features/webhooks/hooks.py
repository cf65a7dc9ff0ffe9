"""What services call of webhooks."""

from collections.abc import Iterator

from sqlalchemy.orm import Session

from app.features.webhooks import queries
from app.features.webhooks.tables import WebhookRow
from app.services.hooks import Hooks


def _secrets(session: Session) -> Iterator[tuple[WebhookRow, str]]:
    for row in queries.all_of_them(session):
        yield row, "secret"
        yield row, "url"


HOOKS = Hooks(secrets=_secrets)
