"""Queries of single sign-on."""

from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.features.single_sign_on.tables import ExternalIdentityRow, OpenIdLoginRow
from app.store.database.rows import affected


def identity(session: Session, issuer: str, subject: str) -> ExternalIdentityRow | None:
    """The identity of a provider's user."""
    return session.get(ExternalIdentityRow, (issuer, subject))


def has_identity(session: Session, user_id: int, issuer: str) -> bool:
    """Whether a user has an identity at a provider."""
    query = select(ExternalIdentityRow.subject)
    query = query.where(ExternalIdentityRow.user_id == user_id, ExternalIdentityRow.issuer == issuer)
    return session.scalars(query.limit(1)).first() is not None


def users_with_identity(session: Session) -> set[int]:
    """The users that have an identity at a provider."""
    return set(session.scalars(select(ExternalIdentityRow.user_id)))


def remove_of(session: Session, user_id: int) -> int:
    """Delete the identities of a user. Returns their number."""
    return affected(session, delete(ExternalIdentityRow).where(ExternalIdentityRow.user_id == user_id))


def take(session: Session, state_sha256: str, at: datetime) -> OpenIdLoginRow | None:
    """Take a login that is under way; it is gone then. None if there is none, or it has expired."""
    row = session.get(OpenIdLoginRow, state_sha256)
    if row is None or affected(session, delete(OpenIdLoginRow).where(OpenIdLoginRow.state_sha256 == state_sha256)) != 1:
        return None
    session.expunge(row)
    return row if row.expires_at > at else None


def forget(session: Session, at: datetime) -> None:
    """Delete the logins that have expired."""
    affected(session, delete(OpenIdLoginRow).where(OpenIdLoginRow.expires_at < at))
