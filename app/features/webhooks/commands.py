"""`vezna webhook`: add, list, test, enable and remove webhooks, in this installation's database."""

from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich import box
from rich.table import Table

from app.cli.shared import Json, say, show
from app.domain.errors import Invalid
from app.domain.validation import field_error
from app.features.webhooks import queries, service
from app.features.webhooks.rules import NewWebhook, WebhookEvent
from app.features.webhooks.tables import WebhookDeliveryRow, WebhookRow
from app.services.outbound.outbound import Outbound
from app.services.ownership.vault import Vault
from app.services.users import audit
from app.settings import Settings, load
from app.store.database import migrate
from app.store.database.session import Database
from app.words.i18n import gettext as _
from app.words.i18n import stored

webhooks = typer.Typer(help="Webhooks: add, list, deliveries, test, enable, remove.", no_args_is_help=True)

Id = Annotated[int, typer.Argument(metavar="ID", help="Number of the webhook.")]
SHOWN = 50


@webhooks.command()
def add(
    url: Annotated[str, typer.Argument(metavar="URL", help="Where messages are sent. VEZNA_OUTBOUND_HOSTS lists it.")],
    events: Annotated[
        list[WebhookEvent] | None, typer.Option("--event", help="Event that it receives. Default: every event.")
    ] = None,
) -> None:
    """Add a webhook and print its secret, with which the receiver verifies messages. It is not shown again."""
    settings, database = _installation()
    try:
        new = NewWebhook(url=url, events=events or list(WebhookEvent))
    except ValidationError as error:
        raise Invalid.of([field_error(each, {}) for each in error.errors()]) from None
    with database.transaction() as session:
        row, secret = service.create(session, Outbound(settings), Vault(settings), new)
    say(_("Added webhook %(webhook)s. Its secret:", webhook=row.id), wrap=False)
    print(secret)


@webhooks.command(name="list")
def list_all(as_json: Json = False) -> None:
    """List every webhook, and why one is disabled."""
    with _installation()[1].reading() as session:
        rows = [_shown(row) for row in queries.all_of_them(session)]
    show(rows, as_json, _table)


@webhooks.command()
def deliveries(as_json: Json = False) -> None:
    """List the last messages: when and how often each was sent, and the last answer."""
    with _installation()[1].reading() as session:
        rows = [_delivery(row) for row in queries.latest(session, limit=SHOWN)]
    show(rows, as_json, _log)


@webhooks.command()
def test(webhook: Id) -> None:
    """Have the control worker send a test message."""
    with _installation()[1].transaction() as session:
        row = service.test(session, webhook)
    say(_("Queued %(message)s. See: vezna webhook deliveries", message=row.message_id), wrap=False)


@webhooks.command()
def enable(webhook: Id) -> None:
    """Send to a disabled webhook again, also what has waited."""
    with _installation()[1].transaction() as session:
        waiting = service.enable(session, webhook)
    say(_("Enabled webhook %(webhook)s; messages that waited: %(waiting)s.", webhook=webhook, waiting=waiting))


@webhooks.command()
def remove(webhook: Id) -> None:
    """Remove a webhook with its messages, sent or not."""
    with _installation()[1].transaction() as session:
        service.delete(session, webhook)
    say(_("Removed webhook %(webhook)s.", webhook=webhook))


def _installation() -> tuple[Settings, Database]:
    """Settings and database of this installation. Raises Unavailable if it is not migrated."""
    settings = load()
    database = Database(settings.database)
    migrate.require_current(database)
    audit.act_as_command()
    return settings, database


def _shown(row: WebhookRow) -> dict[str, Any]:
    return {"id": row.id, "host": row.host, "events": row.event_names, "disabled": row.disabled}


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(_("Id"), _("Host"), _("Events"), _("State"), box=box.SIMPLE)
    for row in rows:
        state = _("disabled: %(why)s", why=stored(row["disabled"])) if row["disabled"] else _("active")
        table.add_row(str(row["id"]), row["host"], ", ".join(row["events"]), state)
    return table


def _delivery(row: WebhookDeliveryRow) -> dict[str, Any]:
    return {
        "message": row.message_id,
        "webhook": row.webhook_id,
        "event": row.event,
        "created_at": row.created_at.isoformat(),
        "attempts": row.attempts,
        "delivered_at": row.delivered_at.isoformat() if row.delivered_at else None,
        "next_at": row.next_at.isoformat() if row.next_at else None,
        "last_status": row.last_status,
        "why": row.message,
    }


def _log(rows: list[dict[str, Any]]) -> Table:
    table = Table(_("Message"), _("Webhook"), _("Event"), _("Created"), _("Attempts"), _("State"), box=box.SIMPLE)
    for row in rows:
        created = row["created_at"][:19].replace("T", " ")
        waits = stored(row["why"]) or _("waiting")
        state = _("delivered (%(status)s)", status=row["last_status"]) if row["delivered_at"] else waits
        table.add_row(row["message"], str(row["webhook"]), row["event"], created, str(row["attempts"]), state)
    return table


def register(cli: typer.Typer) -> None:
    """Add the commands."""
    cli.add_typer(webhooks, name="webhook")
