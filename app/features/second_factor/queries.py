"""Queries of second factors."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from app.features.second_factor.tables import PendingLoginRow, RecoveryCodeRow, SecondFactorRow
from app.store.database.rows import affected


def of_user(session: Session, user_id: int) -> SecondFactorRow | None:
    """A user's factor, confirmed or not."""
    return session.get(SecondFactorRow, user_id)


def confirmed_users(session: Session) -> set[int]:
    """The users with a confirmed factor."""
    return set(session.scalars(select(SecondFactorRow.user_id).where(SecondFactorRow.confirmed_at.is_not(None))))


def everyone(session: Session) -> Sequence[SecondFactorRow]:
    return session.scalars(select(SecondFactorRow).order_by(SecondFactorRow.user_id)).all()


def remove(session: Session, user_id: int) -> int:
    """Delete a user's factor with its recovery codes and waiting logins. Returns the number of factors."""
    for table in (RecoveryCodeRow, PendingLoginRow):
        affected(session, delete(table).where(table.user_id == user_id))
    return affected(session, delete(SecondFactorRow).where(SecondFactorRow.user_id == user_id))


def forget_setups(session: Session, before: datetime) -> None:
    """Delete the factors that were set up before a time and not confirmed."""
    query = delete(SecondFactorRow).where(SecondFactorRow.confirmed_at.is_(None))
    affected(session, query.where(SecondFactorRow.created_at < before))


def replace_codes(session: Session, user_id: int, hashes: Iterable[str]) -> None:
    """Give a user other recovery codes."""
    affected(session, delete(RecoveryCodeRow).where(RecoveryCodeRow.user_id == user_id))
    session.add_all(RecoveryCodeRow(user_id=user_id, code_sha256=each) for each in hashes)
    session.flush()


def use_code(session: Session, user_id: int, sha256: str) -> bool:
    """Delete a recovery code of a user. Whether there was one."""
    same = RecoveryCodeRow.code_sha256 == sha256, RecoveryCodeRow.user_id == user_id
    return affected(session, delete(RecoveryCodeRow).where(*same)) == 1


def codes_left(session: Session, user_id: int) -> int:
    """How many recovery codes a user has."""
    return session.scalar(select(func.count()).where(RecoveryCodeRow.user_id == user_id)) or 0


def waiting(session: Session, sha256: str, at: datetime) -> PendingLoginRow | None:
    """A login that waits for its code, unless it has expired."""
    row = session.get(PendingLoginRow, sha256)
    return row if row is not None and row.expires_at > at else None


def forget(session: Session, at: datetime, user_id: int | None = None) -> None:
    """Delete the waiting logins that have expired, or all of a user."""
    which = PendingLoginRow.expires_at < at if user_id is None else PendingLoginRow.user_id == user_id
    affected(session, delete(PendingLoginRow).where(which))
