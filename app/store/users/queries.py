"""Queries of users."""

from collections.abc import Collection, Sequence

from sqlalchemy import column, select, table
from sqlalchemy.orm import Session

from app.domain.accounts.policy import Role
from app.domain.messages import _
from app.store.database.rows import find_row, get_row
from app.store.tables import UserRow

SECOND_FACTORS = table("second_factors", column("user_id"), column("confirmed_at"))
"""Read here by its name: a user who has one is not let in by the password alone while the feature is not active."""


def get(session: Session, user_id: int, *, lock: bool = False) -> UserRow:
    """A user, locked until the transaction ends if it is to be changed. Raises NotFound."""
    return get_row(session, UserRow, user_id, _("There is no user %(user_id)s.", user_id=user_id), lock=lock)


def find(session: Session, user_id: int | None) -> UserRow | None:
    return find_row(session, UserRow, user_id)


def by_email(session: Session, email: str) -> UserRow | None:
    """The user with an e-mail address, in lower case."""
    return session.scalars(select(UserRow).where(UserRow.email == email)).first()


def all_of_them(session: Session) -> Sequence[UserRow]:
    """Every user, by e-mail address; an installation has few."""
    return session.scalars(select(UserRow).order_by(UserRow.email)).all()


def some(session: Session, user_ids: Collection[int]) -> Sequence[UserRow]:
    """The users that exist."""
    return session.scalars(select(UserRow).where(UserRow.id.in_(user_ids))).all()


def names(session: Session) -> dict[int, str]:
    """The name of every user by id; of one without a name the e-mail address."""
    rows = session.execute(select(UserRow.id, UserRow.name, UserRow.email))
    return {user_id: name or email for user_id, name, email in rows}


def any_exists(session: Session) -> bool:
    """Whether there is a user, disabled or not."""
    return session.scalar(select(UserRow.id).limit(1)) is not None


def lock_active_admins(session: Session) -> list[int]:
    """Ids of the admins that can log in (not disabled, with a password), locked until the transaction ends: two
    transactions cannot disable the last two at once."""
    active = select(UserRow.id).where(UserRow.role_name == Role.ADMIN.value, UserRow.disabled.is_(False))
    active = active.where(UserRow.password_hash.is_not(None))
    return list(session.scalars(active.order_by(UserRow.id).with_for_update()))


def has_second_factor(session: Session, user_id: int) -> bool:
    """Whether a user has a confirmed second factor."""
    columns = SECOND_FACTORS.c
    query = select(columns.user_id).where(columns.user_id == user_id, columns.confirmed_at.is_not(None))
    return session.scalar(query) is not None
