"""The context of the page of webhooks."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.domain.errors import FieldError
from app.features.webhooks.rules import WebhookEvent
from app.features.webhooks.tables import WebhookDeliveryRow, WebhookRow
from app.web.forms.errors import HasErrors


@dataclass(frozen=True)
class WebhooksPage(HasErrors):
    """Every webhook, the last messages, and the form of a new one."""

    webhooks: Sequence[WebhookRow]
    deliveries: Sequence[WebhookDeliveryRow]
    outbound: bool
    """Some host is listed in VEZNA_OUTBOUND_HOSTS."""
    kept_days: int
    """After which messages are deleted, delivered or not."""
    url: str = ""
    chosen: tuple[str, ...] = tuple(event.value for event in WebhookEvent)
    """The events of the form."""
    secret: str = ""
    """Of a new webhook, shown once."""
    errors: tuple[FieldError, ...] = ()
    events: tuple[WebhookEvent, ...] = tuple(WebhookEvent)
