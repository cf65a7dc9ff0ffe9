"""Users: create, disable, enable, change role and password."""

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.domain.accounts.audit import Action
from app.domain.accounts.policy import Role
from app.domain.accounts.users import NewUser
from app.domain.errors import Conflict, NotFound
from app.domain.messages import _
from app.services.hooks import hooks
from app.services.users import audit, throttle
from app.store.database import owners as ownership
from app.store.tables import UserRow
from app.store.users import api_tokens, login_sessions, one_time_links
from app.store.users import queries as users

DISABLED = _("The user is disabled. Enable the user first.")


def create(session: Session, new: NewUser, password_hash: str | None = None) -> UserRow:
    """Create a user; without a hash of a password (`passwords.accepted`) a link has to set one. An admin gets all that
    has no owner. Raises Conflict if the e-mail address is taken."""
    row = UserRow(email=new.email, name=new.name, role_name=new.role.value, password_hash=password_hash)
    try:
        with session.begin_nested():
            session.add(row)
    except IntegrityError:
        raise Conflict(_("There already is a user %(email)s.", email=new.email)) from None
    if new.role is Role.ADMIN:
        ownership.adopt(session, row.id)
    audit.record(session, Action.CREATE_USER, row.email, role=row.role_name)
    return row


def by_email(session: Session, email: str, *, lock: bool = False) -> UserRow:
    """The user with an e-mail address, however it is typed. Raises NotFound."""
    row = users.by_email(session, email.strip().lower())
    if row is None:
        raise NotFound(_("There is no user %(email)s. List them with: vezna user list", email=email))
    return users.get(session, row.id, lock=True) if lock else row


def set_password(session: Session, user: UserRow, password_hash: str, *, kept_session: int | None = None) -> None:
    """Give a locked user another password, by its hash. It ends the user's other sessions, and the links that were to
    set a password."""
    user.password_hash = password_hash
    login_sessions.end_all(session, user.id, kept_session)
    one_time_links.drop_of(session, user.id)
    end_waiting_logins(session, user.id)
    throttle.lift(session, user.email)
    session.flush()
    audit.record(session, Action.CHANGE_PASSWORD, user.email)


def set_disabled(session: Session, user_id: int, disabled: bool) -> UserRow:
    """Disable a user, whose sessions end and whose tokens are refused, or enable one again. Raises NotFound, and
    Conflict for the last admin."""
    if disabled:
        _require_another_admin(session, user_id)
    user = users.get(session, user_id, lock=True)
    user.disabled = disabled
    if disabled:  # a login that waits for the lock finds the user disabled
        login_sessions.end_all(session, user_id)
        one_time_links.drop_of(session, user_id)
        end_waiting_logins(session, user_id)
    session.flush()
    audit.record(session, Action.DISABLE_USER if disabled else Action.ENABLE_USER, user.email)
    return user


def revoke_access(session: Session, user_id: int) -> UserRow:
    """End every session of a user, and revoke every API token; links that were to set a password and logins that wait
    for a code end, too. Raises NotFound."""
    user = users.get(session, user_id, lock=True)
    ended, revoked = login_sessions.end_all(session, user_id), api_tokens.revoke_all(session, user_id)
    one_time_links.drop_of(session, user_id)
    end_waiting_logins(session, user_id)
    audit.record(session, Action.REVOKE_ACCESS, user.email, sessions=ended, tokens=revoked)
    return user


def set_role(session: Session, user_id: int, role: Role) -> UserRow:
    """Change a user's role from the next request on. A new admin gets all that has no owner. Raises NotFound, and
    Conflict for the last admin."""
    if role is not Role.ADMIN:
        _require_another_admin(session, user_id)
    user = users.get(session, user_id, lock=True)
    before, user.role_name = user.role_name, role.value
    if role is Role.ADMIN:
        ownership.adopt(session, user.id)
    session.flush()
    audit.record(session, Action.CHANGE_ROLE, user.email, role=role.value, before=before)
    return user


def set_language(session: Session, user_id: int, language: str) -> None:
    """Show a user's pages in a language, wherever the user logs in. Raises NotFound."""
    users.get(session, user_id, lock=True).language = language


def end_waiting_logins(session: Session, user_id: int) -> None:
    """End the logins of a user that have begun and not finished."""
    for added in hooks():
        added.end_logins(session, user_id)


def _require_another_admin(session: Session, user_id: int) -> None:
    if users.lock_active_admins(session) == [user_id]:
        raise Conflict(_("This is the last admin with a password. Make another user admin first."))
