"""The answers to requests with an `Idempotency-Key`, for a day."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.store.tables import IdempotencyKeyRow, now

KEPT = timedelta(hours=24)
ENCRYPTED = "encrypted:"
"""How the stored body of an answer with a secret begins."""


def find(session: Session, owner: str, key: str) -> IdempotencyKeyRow | None:
    """The request that was accepted under a key in the last day."""
    query = select(IdempotencyKeyRow).where(IdempotencyKeyRow.owner == owner, IdempotencyKeyRow.key == key)
    return session.scalars(query.where(IdempotencyKeyRow.created_at >= now() - KEPT)).first()


def add(session: Session, row: IdempotencyKeyRow) -> bool:
    """Store an answer. False if another transaction has stored one under the key: on PostgreSQL this waits until that
    one has ended, on SQLite it had ended before this one began."""
    same = (IdempotencyKeyRow.owner == row.owner) & (IdempotencyKeyRow.key == row.key)
    session.execute(delete(IdempotencyKeyRow).where(same, IdempotencyKeyRow.created_at < now() - KEPT))
    try:
        with session.begin_nested():
            session.add(row)
    except IntegrityError:
        return False
    return True


def encrypted(session: Session) -> Sequence[IdempotencyKeyRow]:
    """The answers that are stored encrypted, locked."""
    query = select(IdempotencyKeyRow).where(IdempotencyKeyRow.body.startswith(ENCRYPTED)).with_for_update()
    return session.scalars(query.execution_options(populate_existing=True)).all()


def forget(session: Session, at: datetime) -> None:
    """Delete the answers that have expired by a time."""
    session.execute(delete(IdempotencyKeyRow).where(IdempotencyKeyRow.created_at < at - KEPT))
