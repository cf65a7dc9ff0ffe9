"""Single sign-on: a browser is sent to the identity provider, and comes back as one of its users.

    begin   state, nonce and the verifier of PKCE are stored; the state is in the browser's cookie, too
    finish  the state is that of the cookie and works once; the code becomes an ID token
    enter   the identity (issuer, subject) is a user's, or becomes one's

The provider's e-mail address joins an identity to an existing user only if the provider says that it is verified, and
only to a user without another identity there.
"""

import hmac
from datetime import timedelta

from sqlalchemy.orm import Session

from app.domain.accounts import credentials
from app.domain.accounts.audit import Action
from app.domain.accounts.openid import Profile, profile_of, require_role, role_of
from app.domain.accounts.policy import Role
from app.domain.accounts.users import NewUser
from app.domain.errors import Conflict, Unauthenticated
from app.domain.messages import _
from app.services import audit
from app.services.accounts import login
from app.services.accounts import users as user_service
from app.services.accounts.openid_provider import REFUSED, Provider
from app.settings import Settings
from app.store.queries import openid, users
from app.store.session import Database
from app.store.tables import ExternalIdentityRow, OpenIdLoginRow, UserRow, now
from app.store.tables.openid import MAX_SUBJECT_LENGTH

WAITS = timedelta(minutes=10)
UNVERIFIED = _(
    "The identity provider has not verified your e-mail address, so Vezna cannot tell which account is yours. Verify "
    "it there, or log in with a password."
)
TAKEN = _("This e-mail address belongs to an account with another identity at the provider. Ask an admin.")


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


def enter(session: Session, settings: Settings, profile: Profile) -> UserRow:
    """The locked user of a profile, which is created or joined to it if it is new. With a claim of roles the user gets
    the role of the claim at each login. Raises Unauthenticated."""
    known = openid.identity(session, profile.issuer, profile.subject)
    user = users.get(session, known.user_id, lock=True) if known else _joined(session, settings, profile)
    if user.disabled:
        raise Unauthenticated(login.WRONG)
    if settings.openid_role_claim:
        role = require_role(profile, settings.default_openid_role)
        if role is not user.role:
            _change_role(session, user, role)
    return user


def _joined(session: Session, settings: Settings, profile: Profile) -> UserRow:
    if not profile.email_verified or len(profile.subject) > MAX_SUBJECT_LENGTH:
        raise Unauthenticated(UNVERIFIED)
    found = users.by_email(session, profile.email)
    if found is None:
        role = require_role(profile, settings.default_openid_role)
        name = "".join(c if c.isprintable() else " " for c in profile.name)[:120]
        try:
            found = user_service.create(session, NewUser(email=profile.email, name=name, role=role))
        except (ValueError, Conflict) as error:  # no address, or created meanwhile
            raise Unauthenticated(REFUSED) from error
    user = users.get(session, found.id, lock=True)
    if openid.has_identity(session, user.id, profile.issuer):
        raise Unauthenticated(TAKEN)
    session.add(ExternalIdentityRow(issuer=profile.issuer, subject=profile.subject, user_id=user.id))
    session.flush()
    audit.record(session, Action.JOIN_IDENTITY, user.email, issuer=profile.issuer, id_there=profile.subject)
    return user


def _change_role(session: Session, user: UserRow, role: Role) -> None:
    """By the claim; the last admin with a password stays admin."""
    try:
        user_service.set_role(session, user.id, role)
    except Conflict:
        return
