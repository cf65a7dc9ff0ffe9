"""Webhooks over REST, for admins."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Body
from fastapi.responses import Response

from app.features.webhooks import queries as webhooks
from app.features.webhooks import service
from app.features.webhooks.rules import NewWebhook, WebhookEvent
from app.services.outbound.outbound import Outbound
from app.services.ownership.vault import Vault
from app.web.api.answer import Answer
from app.web.api.examples import WEBHOOK
from app.web.http.dependencies import Config, Db, Reading, RowId
from app.web.http.errors import problems
from app.web.http.idempotency import OnceByHeader

router = APIRouter(prefix="/webhooks", tags=["webhooks"])


class WebhookOut(Answer):
    """A webhook; of its address only the host, since what follows is often a secret."""

    id: int
    host: str
    events: list[WebhookEvent]
    disabled: str
    """Why nothing is sent to it; empty while it is enabled."""
    created_at: datetime


class NewWebhookOut(WebhookOut):
    """A webhook that has just been created."""

    secret: str
    """With which the receiver verifies messages; it is not shown again."""


class WebhookTestOut(Answer):
    """A message that tells of nothing."""

    message_id: str
    """The header `webhook-id` that the receiver will get."""


@router.get("", operation_id="listWebhooks")
def listing(session: Reading) -> list[WebhookOut]:
    """Every webhook, the oldest first."""
    return [WebhookOut.from_object(row) for row in webhooks.all_of_them(session)]


@router.post("", status_code=201, operation_id="createWebhook", responses=problems(409, 422))
def create(
    db: Db,
    settings: Config,
    once: OnceByHeader,
    response: Response,
    request: Annotated[NewWebhook, Body(openapi_examples=WEBHOOK)],
) -> NewWebhookOut:
    """Add a webhook. Its secret is in this answer alone. 422 for a host that `VEZNA_OUTBOUND_HOSTS` does not list; 409
    if there are too many."""
    response.headers["Cache-Control"] = "no-store"
    vault = Vault(settings)
    with db.transaction() as session:
        row, secret = service.create(session, Outbound(settings), vault, request)
        return once.keep(session, NewWebhookOut.from_object(row, secret=secret), vault)


@router.post("/{webhook_id}/test", status_code=202, operation_id="testWebhook", responses=problems(404))
def test(db: Db, webhook_id: RowId) -> WebhookTestOut:
    """Have the control worker send a message that tells of nothing."""
    with db.transaction() as session:
        return WebhookTestOut.from_object(service.test(session, webhook_id))


@router.post("/{webhook_id}/enable", operation_id="enableWebhook", responses=problems(404))
def enable(db: Db, webhook_id: RowId) -> WebhookOut:
    """Send to a disabled webhook again, also what has waited."""
    with db.transaction() as session:
        service.enable(session, webhook_id)
        return WebhookOut.from_object(webhooks.get(session, webhook_id))


@router.delete("/{webhook_id}", status_code=204, operation_id="deleteWebhook", responses=problems(404))
def delete(db: Db, webhook_id: RowId) -> None:
    """Remove a webhook with its messages, sent or not."""
    with db.transaction() as session:
        service.delete(session, webhook_id)
