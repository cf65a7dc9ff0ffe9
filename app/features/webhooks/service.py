"""Webhooks: create, tell of events, deliver.

A message is a row that is written in the transaction of its event. The control node sends what is due: it marks an
attempt in one transaction, sends outside of any, and writes the result in another. If the process is killed in between,
the message is sent again, so a receiver gets each at least once; `webhook-id` tells it which it has already.

Locks are taken in one order: ended runs, webhooks, messages.
"""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy.orm import Session

from app.domain.accounts.audit import Action
from app.domain.errors import Conflict, VeznaError
from app.domain.messages import _
from app.features.webhooks import queries as webhooks
from app.features.webhooks.rules import (
    RETRY_SECONDS,
    NewWebhook,
    WebhookEvent,
    new_message_id,
    new_secret,
    signed_headers,
)
from app.features.webhooks.tables import WebhookDeliveryRow, WebhookRow
from app.services.outbound.outbound import Outbound
from app.services.ownership.vault import Vault
from app.services.users import audit
from app.settings import Settings
from app.store.database.session import Database
from app.store.tables import now

log = structlog.get_logger()

SECONDS = 10.0
"""For a receiver's whole answer; the specification suggests 15 to 30, and one thread sends all."""
MOST_ANSWER_BYTES = 64 << 10
AT_ONCE = 20
CLAIMED = timedelta(seconds=AT_ONCE * SECONDS + 60)
"""After which an attempt without a result is repeated: when all that are marked at once have ended."""
KEPT = timedelta(days=30)
"""Of messages, delivered or not."""
MOST_WEBHOOKS = 50
"""Each makes a message of each event."""
GONE = 410
TEST = "webhook.test"
"""What a test tells of."""


@dataclass(frozen=True)
class Attempt:
    """A message that is being sent."""

    delivery_id: int
    number: int
    webhook_id: int
    url: str
    """Encrypted, as the secret."""
    secret: str
    message_id: str
    body: bytes


def create(session: Session, outbound: Outbound, vault: Vault, new: NewWebhook) -> tuple[WebhookRow, str]:
    """A webhook and its secret, which is shown once. Raises Invalid for an address that may not be reached, Conflict if
    there are too many, and Unavailable without a key. Of the address only the host is shown and recorded: what follows
    is often a secret itself."""
    url = outbound.require_listed(new.url)
    if len(webhooks.all_of_them(session)) >= MOST_WEBHOOKS:
        raise Conflict(_("There are %(most)s webhooks, the maximum. Remove one first.", most=MOST_WEBHOOKS))
    secret = new_secret()
    names = [event.value for event in WebhookEvent if event in new.events]
    row = WebhookRow(
        host=url.netloc.decode(), url=vault.encrypt(new.url), event_names=names, secret=vault.encrypt(secret)
    )
    session.add(row)
    session.flush()
    audit.record(session, Action.CREATE_WEBHOOK, row.id, host=row.host, events=names)
    return row, secret


def delete(session: Session, webhook_id: int) -> None:
    """Delete a webhook with its messages. Raises NotFound."""
    row = webhooks.get(session, webhook_id, lock=True)
    audit.record(session, Action.DELETE_WEBHOOK, row.id, host=row.host)
    session.delete(row)
    session.flush()


def enable(session: Session, webhook_id: int) -> int:
    """Send to a webhook again, all that has waited too; the number of these messages. Raises NotFound."""
    row = webhooks.get(session, webhook_id, lock=True)
    row.disabled = ""
    audit.record(session, Action.ENABLE_WEBHOOK, row.id, host=row.host)
    return webhooks.retry_at_once(session, webhook_id, now())


def disable(session: Session, webhook_id: int, why: str) -> None:
    """Send nothing to a webhook until it is enabled; its messages wait. Raises NotFound."""
    webhooks.get(session, webhook_id, lock=True).disabled = why


def test(session: Session, webhook_id: int) -> WebhookDeliveryRow:
    """A message that tells of nothing. Raises NotFound."""
    row = webhooks.get(session, webhook_id, lock=True)
    audit.record(session, Action.TEST_WEBHOOK, row.id, host=row.host)
    return _add(session, row, TEST, {"webhook": row.id})


def tell(session: Session, event: WebhookEvent, data: dict[str, Any], *, at: datetime | None = None) -> None:
    """Write a message to each webhook that wants to know of an event, and was there `at` that time; it waits while the
    webhook is disabled."""
    for row in webhooks.kept(session):
        if event.value in row.event_names and (at is None or row.created_at <= at):
            _add(session, row, event.value, data)


def send_due(db: Database, outbound: Outbound, settings: Settings) -> int:
    """Send all that is due now, a message after the other; the number of attempts. Nothing where no host is listed."""
    with db.reading() as session:
        if not webhooks.any_exists(session):
            return 0
    db.write(lambda session: webhooks.forget(session, now() - KEPT))
    started, sent = now(), 0
    while outbound.enabled and (attempts := db.write(lambda session: _begin(session, started))):
        while attempts:
            attempt, *attempts = attempts
            following = [later for later in attempts if later.webhook_id == attempt.webhook_id]
            sent += 1
            if not _send(db, outbound, settings, attempt, following):
                attempts = [later for later in attempts if later not in following]
    return sent


def _add(session: Session, row: WebhookRow, event: str, data: dict[str, Any]) -> WebhookDeliveryRow:
    at = now()
    body = json.dumps({"type": event, "timestamp": at.isoformat(), "data": data}, ensure_ascii=False)
    delivery = WebhookDeliveryRow(
        webhook_id=row.id, message_id=new_message_id(), event=event, body=body, next_at=at, created_at=at
    )
    session.add(delivery)
    session.flush()
    return delivery


def _begin(session: Session, started: datetime) -> list[Attempt]:
    """Mark an attempt of each message that was due, of each webhook in turn."""
    at, attempts = now(), []
    for delivery, row in webhooks.due(session, started, limit=AT_ONCE):
        delivery.attempts += 1
        delivery.next_at = at + CLAIMED
        attempts.append(
            Attempt(
                delivery.id, delivery.attempts, row.id, row.url, row.secret, delivery.message_id, delivery.body.encode()
            )
        )
    return attempts


def _send(db: Database, outbound: Outbound, settings: Settings, attempt: Attempt, following: list[Attempt]) -> bool:
    """Send a message; whether the following ones of its webhook may be sent at once."""
    status: int | None = None
    try:
        vault = Vault(settings)
        url, secret = vault.decrypt(attempt.url), vault.decrypt(attempt.secret)
        headers = signed_headers(secret, attempt.message_id, int(now().timestamp()), attempt.body)
        reply = outbound.post(url, attempt.body, headers, seconds=SECONDS, most_bytes=MOST_ANSWER_BYTES)
        status = reply.status
        why = "" if reply.succeeded else str(_("It answered %(status)s.", status=status))
    except VeznaError as error:
        why = str(error.message)
    go_on = db.write(lambda session: _ended(session, attempt, following, status, why))
    log.info("webhook", id=attempt.webhook_id, message=attempt.message_id, status=status, attempt=attempt.number)
    return go_on


def _ended(session: Session, attempt: Attempt, following: list[Attempt], status: int | None, why: str) -> bool:
    """Write the result of an attempt. After one without an answer, what else waits for the webhook is sent when it is
    tried again, so that a server that does not answer holds up no other. False if so, and if it is disabled."""
    if webhooks.find(session, attempt.webhook_id, lock=True) is None:
        return False
    at = now()
    again = None if not why else at + timedelta(seconds=RETRY_SECONDS[min(attempt.number, len(RETRY_SECONDS)) - 1])
    values = {"next_at": again, "delivered_at": None if why else at, "last_status": status, "message": why}
    if not webhooks.write(session, attempt.delivery_id, attempt.number, **values) or again is None:
        return True
    if status == GONE:
        disable(session, attempt.webhook_id, str(_("It answered 410 Gone, so nothing is sent any more.")))
    elif attempt.number > len(RETRY_SECONDS):
        times = attempt.number
        last = str(_("A message failed %(times)s times; the last time: %(why)s", times=times, why=why))
        disable(session, attempt.webhook_id, last)
    elif status is not None:
        return True
    for later in following:
        webhooks.write(session, later.delivery_id, later.number, attempts=later.number - 1, next_at=again)
    webhooks.postpone(session, attempt.webhook_id, again)
    return False
