"""Queries of webhooks and of the messages that are to be delivered."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, exists, func, or_, select, update
from sqlalchemy.orm import Session

from app.domain.messages import _
from app.features.webhooks.tables import WebhookDeliveryRow, WebhookRow
from app.store.database.rows import affected, changed, find_row, get_row


def all_of_them(session: Session) -> Sequence[WebhookRow]:
    """Every webhook, the oldest first; an installation has few."""
    return session.scalars(select(WebhookRow).order_by(WebhookRow.id)).all()


def kept(session: Session) -> Sequence[WebhookRow]:
    """The same, and none of them is deleted before the transaction ends."""
    query = select(WebhookRow).order_by(WebhookRow.id).with_for_update(read=True, key_share=True)
    return session.scalars(query).all()


def any_exists(session: Session) -> bool:
    """Whether there is a webhook."""
    return bool(session.scalar(select(exists().where(WebhookRow.id > 0))))


def get(session: Session, webhook_id: int, *, lock: bool = False) -> WebhookRow:
    """A webhook. Raises NotFound."""
    return get_row(session, WebhookRow, webhook_id, _("There is no webhook %(id)s.", id=webhook_id), lock=lock)


def find(session: Session, webhook_id: int, *, lock: bool = False) -> WebhookRow | None:
    """A webhook, if there is one."""
    return find_row(session, WebhookRow, webhook_id, lock=lock)


def latest(session: Session, *, limit: int) -> list[WebhookDeliveryRow]:
    """Messages of every webhook, the newest first."""
    return list(session.scalars(select(WebhookDeliveryRow).order_by(WebhookDeliveryRow.id.desc()).limit(limit)))


def due(session: Session, at: datetime, *, limit: int) -> list[tuple[WebhookDeliveryRow, WebhookRow]]:
    """Messages to enabled webhooks whose time has come, locked: of each webhook in turn, the longest waiting first;
    without those that another transaction has."""
    waiting = (WebhookDeliveryRow.next_at <= at, WebhookRow.disabled == "")
    order = (WebhookDeliveryRow.next_at, WebhookDeliveryRow.id)
    turn = func.row_number().over(partition_by=WebhookDeliveryRow.webhook_id, order_by=order).label("turn")
    same = WebhookRow.id == WebhookDeliveryRow.webhook_id
    turns = select(WebhookDeliveryRow.id, turn).join(WebhookRow, same).where(*waiting).subquery()
    query = select(WebhookDeliveryRow, WebhookRow).join(WebhookRow, same).where(*waiting)
    query = query.join(turns, turns.c.id == WebhookDeliveryRow.id).order_by(turns.c.turn, *order).limit(limit)
    query = query.with_for_update(skip_locked=True, of=WebhookDeliveryRow)
    return [(delivery, hook) for delivery, hook in session.execute(query)]


def write(session: Session, delivery_id: int, number: int, **values: object) -> bool:
    """Write the result of an attempt, unless another one has begun since. False if so, or if it was deleted."""
    query = update(WebhookDeliveryRow).where(
        WebhookDeliveryRow.id == delivery_id, WebhookDeliveryRow.attempts == number
    )
    return changed(session, query.values(**values))


def postpone(session: Session, webhook_id: int, until: datetime) -> None:
    """Have no undelivered message of a webhook sent before a time."""
    waiting = (WebhookDeliveryRow.webhook_id == webhook_id) & (WebhookDeliveryRow.next_at < until)
    session.execute(update(WebhookDeliveryRow).where(waiting).values(next_at=until))


def retry_at_once(session: Session, webhook_id: int, at: datetime) -> int:
    """Have every undelivered message of a webhook sent now, with all attempts. Returns their number."""
    waiting = (WebhookDeliveryRow.webhook_id == webhook_id) & WebhookDeliveryRow.next_at.is_not(None)
    return affected(session, update(WebhookDeliveryRow).where(waiting).values(next_at=at, attempts=0))


def forget(session: Session, before: datetime) -> None:
    """Delete messages that were delivered, or have waited since, before a time."""
    old = or_(
        WebhookDeliveryRow.delivered_at < before,
        WebhookDeliveryRow.delivered_at.is_(None) & (WebhookDeliveryRow.created_at < before),
    )
    session.execute(delete(WebhookDeliveryRow).where(old))
