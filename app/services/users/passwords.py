"""Passwords: which are refused, and how they are hashed (argon2id, by pwdlib).

The libraries are imported with the first password: a server without login needs none of them.
"""

import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from app.domain.accounts.users import MAX_PASSWORD_LENGTH, MIN_PASSWORD_GUESSES, MIN_PASSWORD_LENGTH
from app.domain.errors import Invalid, Unavailable
from app.domain.messages import _

if TYPE_CHECKING:
    from pwdlib import PasswordHash

AT_ONCE = 2
"""A hash takes 64 MiB and a twentieth of a second of four cores, so more at once would only take more memory."""
WAIT_SECONDS = 5.0
ESTIMATED_CHARACTERS = 72
"""The beginning by which a password is estimated: zxcvbn takes no longer one, and its time grows with the length."""
FIELD = "password"
_places = threading.BoundedSemaphore(AT_ONCE)


def check(password: str, *known: str) -> None:
    """Raise Invalid for a password that is too short or easily guessed. `known`: what a guess would begin with."""
    if not MIN_PASSWORD_LENGTH <= len(password) <= MAX_PASSWORD_LENGTH:
        bounds = {"least": MIN_PASSWORD_LENGTH, "most": MAX_PASSWORD_LENGTH}
        raise Invalid.field(
            FIELD,
            _("The password has %(length)s characters", length=len(password)),
            _("Choose %(least)s to %(most)s characters, for example four words that have nothing in common", **bounds),
        )
    estimate: dict[str, Any] = import_module("zxcvbn").zxcvbn(
        password[:ESTIMATED_CHARACTERS], user_inputs=["vezna", *(word for word in known if word)]
    )
    if estimate["guesses"] < MIN_PASSWORD_GUESSES:
        raise Invalid.field(
            FIELD,
            _("The password is in a list of common ones, or easily guessed from them"),
            _("Choose another, for example four words that have nothing in common"),
        )


def accepted(password: str, *known: str) -> str:
    """The hash of a new password, which takes too long for an open transaction. Raises what `check` raises, and
    Unavailable if many are being hashed."""
    check(password, *known)
    with _place():
        return _hasher().hash(_bytes(password))


def verified(password: str, stored: str | None) -> tuple[bool, str | None]:
    """Whether a password is the stored one, and a new hash to store if the parameters have changed since. Without a
    stored one it takes the same time. Raises Unavailable if many are being hashed."""
    if len(password) > MAX_PASSWORD_LENGTH:
        return False, None
    with _place():
        if stored is None:
            _hasher().hash(_bytes(password))
            return False, None
        return _hasher().verify_and_update(_bytes(password), stored)


@contextmanager
def _place() -> Iterator[None]:
    if not _places.acquire(timeout=WAIT_SECONDS):
        raise Unavailable(_("Too many people log in at once. Try again in a few seconds."))
    try:
        yield
    finally:
        _places.release()


def _bytes(password: str) -> bytes:
    """Alike for every keyboard (NIST SP 800-63B-4, 3.1.1.2), and without an error for half characters."""
    return unicodedata.normalize("NFKC", password).encode(errors="surrogatepass")


@cache
def _hasher() -> "PasswordHash":
    library: Any = import_module("pwdlib")
    made: PasswordHash = library.PasswordHash.recommended()  # the second recommended option of RFC 9106
    return made
