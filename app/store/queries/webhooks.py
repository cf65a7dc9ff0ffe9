"""Queries of webhooks and of the messages that are to be delivered."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, exists, select, update
from sqlalchemy.orm import Session

from app.domain.messages import _
from app.store.queries.rows import affected, changed, get_row
from app.store.tables import EndedRunRow, WebhookDeliveryRow, WebhookRow


def all_of_them(session: Session) -> Sequence[WebhookRow]:
    """Every webhook, the oldest first; an installation has few."""
    return session.scalars(select(WebhookRow).order_by(WebhookRow.id)).all()


def any_exists(session: Session) -> bool:
    """Whether there is a webhook."""
    return bool(session.scalar(select(exists().where(WebhookRow.id > 0))))


def get(session: Session, webhook_id: int, *, lock: bool = False) -> WebhookRow:
    """A webhook. Raises NotFound."""
    return get_row(session, WebhookRow, webhook_id, _("There is no webhook %(id)s.", id=webhook_id), lock=lock)


def latest(session: Session, *, limit: int) -> list[WebhookDeliveryRow]:
    """Messages of every webhook, the newest first."""
    return list(session.scalars(select(WebhookDeliveryRow).order_by(WebhookDeliveryRow.id.desc()).limit(limit)))


def due(session: Session, at: datetime, *, limit: int) -> list[tuple[WebhookDeliveryRow, WebhookRow]]:
    """Messages to enabled webhooks whose time has come, the longest waiting first, locked; without those that another
    transaction has."""
    query = select(WebhookDeliveryRow, WebhookRow).join(WebhookRow, WebhookRow.id == WebhookDeliveryRow.webhook_id)
    query = query.where(WebhookDeliveryRow.next_at <= at, WebhookRow.disabled == "")
    query = query.order_by(WebhookDeliveryRow.next_at, WebhookDeliveryRow.id).limit(limit)
    query = query.with_for_update(skip_locked=True, of=WebhookDeliveryRow)
    return [(delivery, hook) for delivery, hook in session.execute(query)]


def write(session: Session, delivery_id: int, attempts: int, **values: object) -> bool:
    """Write the result of an attempt, unless another one has begun since. False if so, or if it was deleted."""
    query = update(WebhookDeliveryRow).where(
        WebhookDeliveryRow.id == delivery_id, WebhookDeliveryRow.attempts == attempts
    )
    return changed(session, query.values(**values))


def retry_at_once(session: Session, webhook_id: int, at: datetime) -> int:
    """Have every undelivered message of a webhook sent now, with all attempts. Returns their number."""
    waiting = (WebhookDeliveryRow.webhook_id == webhook_id) & WebhookDeliveryRow.next_at.is_not(None)
    return affected(session, update(WebhookDeliveryRow).where(waiting).values(next_at=at, attempts=0))


def take_ended_runs(session: Session, *, limit: int) -> list[int]:
    """Ids of runs that have ended, the oldest first; they are taken out."""
    rows = list(session.scalars(select(EndedRunRow).order_by(EndedRunRow.id).limit(limit).with_for_update()))
    session.execute(delete(EndedRunRow).where(EndedRunRow.id.in_([row.id for row in rows])))
    return list(dict.fromkeys(row.run_id for row in rows))


def forget(session: Session, before: datetime) -> None:
    """Delete messages that were delivered before a time."""
    session.execute(delete(WebhookDeliveryRow).where(WebhookDeliveryRow.delivered_at < before))
