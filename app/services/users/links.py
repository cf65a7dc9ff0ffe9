"""Links that work once: the first admin's, and those that set a password."""

from datetime import timedelta

from sqlalchemy.orm import Session

from app.domain.accounts import credentials
from app.domain.accounts.audit import Action
from app.domain.accounts.policy import Role
from app.domain.accounts.users import NewUser
from app.domain.errors import Conflict, NotFound
from app.domain.messages import _
from app.services.users import audit
from app.services.users import users as user_service
from app.store.tables import OneTimeLinkRow, UserRow, now
from app.store.users import one_time_links
from app.store.users import queries as users

FIRST_ADMIN = timedelta(hours=24)
PASSWORD = timedelta(hours=72)
GONE = _("This link has expired or was used before. Ask for a new one.")


def for_first_admin(session: Session) -> str | None:
    """The secret of a link that creates the first admin; None if there are users. Every start of a web server makes
    one, and the use of any ends all of them."""
    return None if users.any_exists(session) else _new(session, None, FIRST_ADMIN)


def for_password(session: Session, user: UserRow) -> str:
    """The secret of a link by which a locked user chooses a password. It replaces earlier ones. Raises Conflict if the
    user is disabled."""
    if user.disabled:
        raise Conflict(user_service.DISABLED)
    one_time_links.drop_of(session, user.id)
    audit.record(session, Action.LINK_PASSWORD, user.email)
    return _new(session, user.id, PASSWORD)


def first_admin_possible(session: Session, secret: str) -> bool:
    """Whether a link creates the first admin."""
    return _find(session, secret, first_admin=True) is not None and not users.any_exists(session)


def user_of(session: Session, secret: str) -> UserRow:
    """The user whose password a link sets. Raises NotFound."""
    link = _find(session, secret, first_admin=False)
    user = users.find(session, link.user_id) if link else None
    if user is None or user.disabled:
        raise NotFound(GONE)
    return user


def create_first_admin(session: Session, secret: str, new: NewUser, password_hash: str) -> UserRow:
    """Use a link to create the first admin. Raises NotFound."""
    one_time_links.lock_first_admin(session)
    if not first_admin_possible(session, secret) or not one_time_links.use(session, credentials.digest(secret)):
        raise NotFound(GONE)
    user = user_service.create(session, new.model_copy(update={"role": Role.ADMIN}), password_hash)
    one_time_links.drop_of(session, None)
    return user


def set_password(session: Session, secret: str, password_hash: str) -> UserRow:
    """Use a link to set a password. Raises NotFound."""
    user = users.get(session, user_of(session, secret).id, lock=True)
    if user.disabled or not one_time_links.use(session, credentials.digest(secret)):
        raise NotFound(GONE)
    user_service.set_password(session, user, password_hash)
    return user


def _new(session: Session, user_id: int | None, lasts: timedelta) -> str:
    secret = credentials.new_secret()
    session.add(OneTimeLinkRow(secret_sha256=credentials.digest(secret), user_id=user_id, expires_at=now() + lasts))
    session.flush()
    return secret


def _find(session: Session, secret: str, *, first_admin: bool) -> OneTimeLinkRow | None:
    if not credentials.is_secret(secret):
        return None
    return one_time_links.find(session, credentials.digest(secret), now(), first_admin=first_admin)
