"""The second factor: time-based codes of an authenticator app (TOTP, RFC 6238, by pyotp), and recovery codes.

    password right, or single sign-on  →  a login that waits (5 minutes)  →  a code  →  a session

A code is a number of 6 digits for 30 seconds; the one before and the one after are accepted too, since clocks differ. A
code is accepted once. Wrong codes are limited for each account, apart from wrong passwords: a right password does not
lift the limit.
"""

import base64
import hmac
import secrets
from collections.abc import Callable
from datetime import timedelta
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy.orm import Session

from app.domain.accounts import credentials
from app.domain.accounts.audit import Action
from app.domain.accounts.policy import Identity
from app.domain.errors import Conflict, Invalid, Unauthenticated
from app.domain.messages import _
from app.features.second_factor import queries as second_factors
from app.features.second_factor.tables import PendingLoginRow, SecondFactorRow
from app.services.ownership.vault import Vault
from app.services.users import audit, login, throttle
from app.services.users.sessions import Visitor
from app.settings import Settings
from app.store.database.session import Database
from app.store.tables import UserRow, now
from app.store.users import queries as users

if TYPE_CHECKING:
    from pyotp import TOTP

T = TypeVar("T")
STEP_SECONDS = 30
EITHER_SIDE = 1
"""Steps by which the clocks of a phone and of the server may differ (RFC 6238, section 5.2 recommends one)."""
WAITS = timedelta(minutes=5)
SETUP = timedelta(minutes=10)
"""Time in which a new secret has to be confirmed."""
CODES = 10
CODE_BYTES = 10
"""80 random bits: with SHA-256 in the database, no list of guesses comes near."""
ISSUER = "Vezna"


def is_on(session: Session, user_id: int) -> bool:
    """Whether a user's logins need a code."""
    row = second_factors.of_user(session, user_id)
    return row is not None and row.confirmed_at is not None


def begin(session: Session, vault: Vault, user: UserRow) -> None:
    """Give a locked user a new secret, which is required once it is confirmed. Raises Conflict if one is."""
    row = second_factors.of_user(session, user.id)
    if row is not None and row.confirmed_at is not None:
        raise Conflict(_("The second factor is on already. Turn it off first."))
    secret = vault.encrypt(_pyotp().random_base32())
    if row is None:
        session.add(SecondFactorRow(user_id=user.id, secret=secret))
    else:
        row.secret, row.created_at = secret, now()
    session.flush()


def setup_of(session: Session, vault: Vault, user: UserRow) -> tuple[str, str] | None:
    """The secret that is not confirmed yet, and its address for a QR code (`otpauth://…`)."""
    row = second_factors.of_user(session, user.id)
    if row is None or not _waits(row):
        return None
    totp = _totp(vault, row)
    return totp.secret, totp.provisioning_uri(name=user.email, issuer_name=ISSUER)


def confirm(db: Database, vault: Vault, user_id: int, code: str) -> list[str]:
    """Turn the factor on by a code of the app. Returns the recovery codes, which cannot be read again. Raises Invalid,
    TooMany, and Conflict if there is nothing to confirm."""
    throttle.attempt_code(db, user_id)
    with db.transaction() as session:
        user = users.get(session, user_id, lock=True)
        row = second_factors.of_user(session, user_id)
        if row is None or not _waits(row):
            raise Conflict(_("There is no second factor to confirm, or its setup has expired. Set it up again."))
        if not _accept(vault, row, code):
            raise _wrong()
        row.confirmed_at = now()
        throttle.lift_codes(session, user_id)
        audit.record(session, Action.TURN_FACTOR_ON, user.email)
        return _new_codes(session, user_id)


def renew_codes(session: Session, user: UserRow) -> list[str]:
    """Other recovery codes for a locked user; earlier ones no longer work. Raises Conflict without a factor."""
    if not is_on(session, user.id):
        raise Conflict(_("The second factor is off, so there are no recovery codes."))
    audit.record(session, Action.RENEW_CODES, user.email)
    return _new_codes(session, user.id)


def remove(session: Session, user: UserRow) -> bool:
    """Turn a locked user's factor off, or drop one that is not confirmed. Whether there was one."""
    was_on = is_on(session, user.id)
    removed = second_factors.remove(session, user.id) > 0
    throttle.lift_codes(session, user.id)
    if was_on:
        audit.record(session, Action.TURN_FACTOR_OFF, user.email)
    return removed


def wait_for_code(session: Session, user: UserRow, by: str = "password", profile: dict[str, Any] | None = None) -> str:
    """Have a login of a locked user wait for its code. `by`: how it came so far, for the audit log; `profile`: what the
    provider of single sign-on said, which counts only with the code. Returns its secret."""
    secret = credentials.new_secret()
    session.add(
        PendingLoginRow(
            secret_sha256=credentials.digest(secret),
            user_id=user.id,
            by=by,
            profile=profile,
            expires_at=now() + WAITS,
        )
    )
    session.flush()
    return secret


def pending(session: Session, waiting: str) -> PendingLoginRow:
    """A login that waits for a code. Raises Unauthenticated if it has expired."""
    known = credentials.is_secret(waiting)
    row = second_factors.waiting(session, credentials.digest(waiting), now()) if known else None
    if row is None:
        raise Unauthenticated(login.EXPIRED)
    return row


def finish(db: Database, vault: Vault, waiting: str, code: str, act: Callable[[Session, UserRow], T]) -> T:
    """Act for the user of a login that waits for a code. Raises Unauthenticated if it has expired, Invalid for a wrong
    code, and TooMany."""
    with db.reading() as session:
        row = pending(session, waiting)
        user_id, may_change_role = row.user_id, row.profile is not None
    check(db, vault, user_id, code)
    with db.transaction() as session:
        if may_change_role:
            users.lock_active_admins(session)  # before the user, as every change of a role does
        user = users.get(session, user_id, lock=True)
        pending(session, waiting)  # another password has ended it meanwhile
        if user.disabled:
            raise Unauthenticated(login.WRONG)
        done = act(session, user)
        second_factors.forget(session, now(), user_id)
        return done


def begin_after_code(
    session: Session, settings: Settings, waiting: str, user: UserRow, visitor: Visitor, before: Identity | None
) -> str:
    """Begin the session of a locked user, whose code was right (`finish`); what single sign-on said counts from now on.
    Raises Unauthenticated."""
    row = pending(session, waiting)
    if row.profile is not None:
        login.accept_profile(session, settings, user, row.profile)
    return login.begin(session, user, visitor, before, f"{row.by} and code")


def end_logins(session: Session, user_id: int) -> None:
    """End the logins of a user that wait for a code."""
    second_factors.forget(session, now(), user_id)


def forget(session: Session) -> None:
    """Delete the waiting logins and the setups that have expired."""
    second_factors.forget(session, now())
    second_factors.forget_setups(session, now() - SETUP)


def check(db: Database, vault: Vault, user_id: int, code: str) -> None:
    """Use a code of the app, or a recovery code, of a user with a factor. Raises Invalid and TooMany."""
    throttle.attempt_code(db, user_id)
    with db.transaction() as session:
        user = users.get(session, user_id, lock=True)
        row = second_factors.of_user(session, user_id)
        recovered = second_factors.use_code(session, user_id, credentials.digest(_plain(code)))
        if recovered:
            audit.record(session, Action.USE_CODE, user.email, left=second_factors.codes_left(session, user_id))
        right = recovered or (row is not None and row.confirmed_at is not None and _accept(vault, row, code))
        if right:
            throttle.lift_codes(session, user_id)
        else:
            audit.record(session, Action.LOGIN_FAILED, user.email, wrong="code")
    if not right:
        raise _wrong()


def _waits(row: SecondFactorRow) -> bool:
    """Whether a secret can be confirmed."""
    return row.confirmed_at is None and row.created_at > now() - SETUP


def _accept(vault: Vault, row: SecondFactorRow, code: str) -> bool:
    """Whether a code is right and was not accepted before."""
    digits, totp, current = code.replace(" ", ""), _totp(vault, row), int(now().timestamp()) // STEP_SECONDS
    for step in range(current - EITHER_SIDE, current + EITHER_SIDE + 1):
        right = hmac.compare_digest(totp.generate_otp(step).encode(), digits.encode(errors="replace"))
        if right and step > row.last_step:
            row.last_step = step
            return True
    return False


def _new_codes(session: Session, user_id: int) -> list[str]:
    codes = [base64.b32encode(secrets.token_bytes(CODE_BYTES)).decode().lower() for _code in range(CODES)]
    second_factors.replace_codes(session, user_id, map(credentials.digest, codes))
    return ["-".join(code[at : at + 4] for at in range(0, len(code), 4)) for code in codes]


def _plain(code: str) -> str:
    """A recovery code as it is hashed, however it is typed."""
    return "".join(c for c in code.lower() if c.isascii() and c.isalnum())


def _totp(vault: Vault, row: SecondFactorRow) -> "TOTP":
    made: TOTP = _pyotp().TOTP(vault.decrypt(row.secret))
    return made


def _pyotp() -> Any:
    """Imported with the first factor: a server without login needs it as little as the command line."""
    return import_module("pyotp")


def _wrong() -> Invalid:
    return Invalid.field(
        "code",
        _("The code is wrong, has expired, or was used before"),
        _("Type the code that the app shows now; if it is never right, check the phone's clock"),
    )
