"""Webhooks, for admins: add, whose secret is shown once, test, enable, remove, and the last messages."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

from fastapi import APIRouter, Form
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.orm import Session

from app.domain.errors import Conflict, FieldError, Invalid, Unavailable
from app.features.webhooks import queries as webhooks
from app.features.webhooks import service
from app.features.webhooks.rules import NewWebhook, WebhookEvent
from app.features.webhooks.tables import WebhookDeliveryRow, WebhookRow
from app.services.outbound.outbound import Outbound
from app.services.ownership.vault import Vault
from app.settings import Settings
from app.store.database.session import Database
from app.web.forms.errors import HasErrors, validated
from app.web.http.dependencies import Config, Db, Reading, RowId
from app.web.http.errors import status_of
from app.web.templating import Render

router = APIRouter(prefix="/webhooks", include_in_schema=False)

PAGE = "webhooks/show.html"
SHOWN = 50


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


@router.get("")
def show(session: Reading, settings: Config, render: Render) -> Response:
    """Every webhook and the last messages."""
    return render.page(PAGE, _page(session, settings))


@router.post("")
def create(
    db: Db,
    settings: Config,
    render: Render,
    url: Annotated[str, Form(max_length=10_000)] = "",
    events: Annotated[list[str], Form(max_length=20)] = [],  # noqa: B006
) -> Response:
    """Add a webhook and show its secret."""
    secret, refused = "", None
    try:
        new = validated(NewWebhook, {"url": url, "events": events})
        with db.transaction() as session:
            _row, secret = service.create(session, Outbound(settings), Vault(settings), new)
    except (Conflict, Invalid, Unavailable) as error:
        refused = error
    with db.reading() as session:
        page = _page(session, settings)
    if refused:
        page = replace(page, url=url, chosen=tuple(events), errors=refused.at("url"))
    answer = render.page(PAGE, replace(page, secret=secret), status=status_of(refused) if refused else 200)
    answer.headers["Cache-Control"] = "no-store"
    return answer


@router.post("/{webhook_id}/test")
def test(db: Db, webhook_id: RowId) -> Response:
    """Queue a message that tells of nothing."""
    return _changed(db, lambda session: service.test(session, webhook_id))


@router.post("/{webhook_id}/enable")
def enable(db: Db, webhook_id: RowId) -> Response:
    """Send to a disabled webhook again, also what has waited."""
    return _changed(db, lambda session: service.enable(session, webhook_id))


@router.post("/{webhook_id}/remove")
def remove(db: Db, webhook_id: RowId) -> Response:
    """Remove a webhook with its messages."""
    return _changed(db, lambda session: service.delete(session, webhook_id))


def _changed(db: Database, change: Callable[[Session], Any]) -> Response:
    with db.transaction() as session:
        change(session)
    return RedirectResponse("/webhooks", 303)


def _page(session: Session, settings: Settings) -> WebhooksPage:
    rows, deliveries = webhooks.all_of_them(session), webhooks.latest(session, limit=SHOWN)
    return WebhooksPage(rows, deliveries, Outbound(settings).enabled, service.KEPT.days)
