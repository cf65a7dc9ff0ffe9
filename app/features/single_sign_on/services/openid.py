"""Single sign-on: a browser is sent to the identity provider, and comes back as one of its users.

    begin   state, nonce and the verifier of PKCE are stored; the state is in the browser's cookie, too
    finish  the state is that of the cookie and works once; the code becomes an ID token
    enter   the identity (issuer, subject) is a user's, or becomes a user's; with a second factor only after its code

With a claim of roles the user gets the role of the claim at each login. The provider's e-mail address joins an identity
to an existing user only if the provider says that it is verified, and only to a user without another identity there.
"""

import hmac
from datetime import timedelta
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy.orm import Session

from app.domain.accounts import credentials
from app.domain.accounts.audit import Action
from app.domain.accounts.policy import Identity, Role
from app.domain.accounts.users import NewUser
from app.domain.errors import Conflict, Unauthenticated
from app.domain.messages import _
from app.features.single_sign_on import queries as openid
from app.features.single_sign_on.rules import Profile, profile_of, require_role, role_of
from app.features.single_sign_on.services.provider import REFUSED, Provider
from app.features.single_sign_on.tables import MAX_SUBJECT_LENGTH, ExternalIdentityRow, OpenIdLoginRow
from app.services.users import audit, login, throttle
from app.services.users import users as user_service
from app.services.users.sessions import Visitor
from app.settings import Settings
from app.store.database.session import Database
from app.store.tables import UserRow, now
from app.store.users import queries as users

WAITS = timedelta(minutes=10)
BY = "single sign-on"
"""In the audit log."""
PROFILE = TypeAdapter(Profile)
UNVERIFIED = _(
    "The identity provider has not verified your e-mail address, so Vezna cannot tell which account is yours. Verify "
    "it there, or log in with a password."
)
NOT_ASCII = _(
    "Your e-mail address at the identity provider has characters other than ASCII, which Vezna does not accept. "
    "Change it there, or log in with a password."
)
TAKEN = _(
    "This e-mail address belongs to an account with another identity at the provider. "
    "Ask an admin to remove that identity."
)


def begin(db: Database, provider: Provider, callback: str, back: str) -> tuple[str, str]:
    """Where the browser goes, and the state that its cookie keeps. Raises Unavailable."""
    state, nonce, verifier = (credentials.new_secret() for _part in range(3))
    address = provider.address(callback, state, nonce, verifier)
    with db.transaction() as session:
        session.add(
            OpenIdLoginRow(
                state_sha256=credentials.digest(state),
                nonce=nonce,
                verifier=verifier,
                back=back,
                expires_at=now() + WAITS,
            )
        )
    return address, state


def finish(
    db: Database, provider: Provider, settings: Settings, callback: str, state: str, kept: str, code: str
) -> tuple[Profile, str]:
    """The user that the provider confirms, and the path that the login leads to. `kept`: the state of the cookie.
    Raises Unauthenticated and Unavailable."""
    if not credentials.is_secret(state) or not hmac.compare_digest(state.encode(), kept.encode(errors="replace")):
        raise Unauthenticated(REFUSED)
    with db.transaction() as session:
        under_way = openid.take(session, credentials.digest(state), now())
    if under_way is None or not code:
        raise Unauthenticated(REFUSED)
    claims = provider.claims(code, callback, under_way.nonce, under_way.verifier)
    role = role_of(claims, settings.openid_role_claim, settings.openid_role_values)
    return profile_of(claims, role if settings.openid_role_claim else None), under_way.back


def enter(
    session: Session, settings: Settings, profile: Profile, visitor: Visitor, before: Identity | None
) -> tuple[str, str]:
    """Log the user of a profile in. Returns the secret of a session, or of a login that waits for a code: until then
    the account neither gets the identity nor the role. Raises Unauthenticated."""
    if settings.openid_role_claim:
        users.lock_active_admins(session)  # before the user, as every change of a role does
    user = _user(session, settings, profile)
    if user.disabled:
        raise Unauthenticated(login.WRONG)
    if settings.openid_role_claim:
        require_role(profile, settings.default_openid_role)
    if waiting := login.wait_if_needed(session, user, BY, PROFILE.dump_python(profile, mode="json")):
        return "", waiting
    _join(session, settings, profile, user)
    return login.begin(session, user, visitor, before, BY), ""


def accept(session: Session, settings: Settings, user: UserRow, profile: dict[str, Any]) -> bool:
    """Let a profile of a locked user count, whose login waited for a code. Raises Unauthenticated."""
    _join(session, settings, PROFILE.validate_python(profile), user)
    return True


def remove_identities(session: Session, user: UserRow) -> int:
    """Remove a locked user's identities at providers: the next login there joins one again. Logins that wait for a code
    end. Returns their number."""
    removed = openid.remove_of(session, user.id)
    user_service.end_waiting_logins(session, user.id)
    if removed:
        audit.record(session, Action.REMOVE_IDENTITY, user.email)
    return removed


def forget(session: Session) -> None:
    """Delete the logins that have expired."""
    openid.forget(session, now())


def record_refusal(db: Database, profile: Profile | None, visitor: Visitor) -> None:
    """Record a refused login. Above the limit of failed logins from an address it is not recorded by itself."""
    email = profile.email if profile is not None and profile.email_verified and profile.has_plain_email else ""
    with db.transaction() as session:
        if throttle.count_refusal(session, visitor.address):
            audit.record(session, Action.LOGIN_FAILED, email, by=BY)


def _user(session: Session, settings: Settings, profile: Profile) -> UserRow:
    """The locked user that has the identity, or may get it; a new one if the address is new."""
    if not profile.subject or not profile.subject.isprintable() or len(profile.subject) > MAX_SUBJECT_LENGTH:
        raise Unauthenticated(REFUSED)
    if known := openid.identity(session, profile.issuer, profile.subject):
        return users.get(session, known.user_id, lock=True)
    if not profile.email_verified:
        raise Unauthenticated(UNVERIFIED)
    if not profile.has_plain_email:
        raise Unauthenticated(NOT_ASCII)
    user = users.by_email(session, profile.email) or _created(session, settings, profile)
    user = users.get(session, user.id, lock=True)
    if openid.has_identity(session, user.id, profile.issuer):
        raise Unauthenticated(TAKEN)
    return user


def _created(session: Session, settings: Settings, profile: Profile) -> UserRow:
    role = require_role(profile, settings.default_openid_role)
    name = "".join(c if c.isprintable() else " " for c in profile.name)[:120]
    try:
        return user_service.create(session, NewUser(email=profile.email, name=name, role=role))
    except (ValueError, Conflict) as error:  # no address, or created meanwhile
        raise Unauthenticated(REFUSED) from error


def _join(session: Session, settings: Settings, profile: Profile, user: UserRow) -> None:
    """Give a locked user the identity and, with a claim of roles, the role of a profile."""
    known = openid.identity(session, profile.issuer, profile.subject)
    if known is None and not openid.has_identity(session, user.id, profile.issuer):
        session.add(ExternalIdentityRow(issuer=profile.issuer, subject=profile.subject, user_id=user.id))
        session.flush()
        audit.record(session, Action.JOIN_IDENTITY, user.email, issuer=profile.issuer, id_there=profile.subject)
    elif known is None or known.user_id != user.id:  # while the login waited
        raise Unauthenticated(TAKEN)
    if settings.openid_role_claim:
        role = require_role(profile, settings.default_openid_role)
        if role is not user.role:
            _change_role(session, user, role)


def _change_role(session: Session, user: UserRow, role: Role) -> None:
    """By the claim; the last admin with a password stays admin."""
    try:
        user_service.set_role(session, user.id, role)
    except Conflict:
        return
