"""The token in every form that changes something: it proves that the form is from a page of this server, which a page
of another site cannot read. The checks of `Origin` and of `Host` come before it (`app.web.http.security`).

    token      NONCE.HMAC-SHA256(key, NONCE and the session's cookie)
    key        of the installation: from the database's password by scrypt, or from a file in its home directory

Each page has another nonce, so that the token cannot be guessed from the size of compressed pages (BREACH). With a
session the token is worth nothing to another user. Without one, permission to read a page is also permission to do what
its forms do, so the token is the same for all, and pages can be kept for several readers (`app.web.http.kept`).

A form has it as a hidden field, before its files; htmx sends it as a header.
"""

import hashlib
import hmac
import re
import secrets
from typing import cast

import structlog
from fastapi import FastAPI, Request
from sqlalchemy.engine import make_url

from app.domain.errors import Forbidden, Unavailable
from app.domain.messages import _
from app.settings import Settings
from app.store.key_file import read_or_write

log = structlog.get_logger()

FIELD, HEADER = "csrf_token", "X-CSRF-Token"
SESSION_COOKIE, SECURE_SESSION_COOKIE = "vezna_session", "__Host-vezna_session"
"""Browsers accept the prefix `__Host-` over TLS alone, and then from no other host (RFC 6265bis, section 4.1.3.2)."""
KEY_FILE = "forms.key"
KEY_BYTES = 32
"""Random ones; in the file they are written as hexadecimal digits."""
SALT = b"vezna: tokens in forms"
SCRYPT_N, SCRYPT_R, SCRYPT_P = 2**15, 8, 3
"""Of scrypt (RFC 7914): 32 MiB of memory and some tenths of a second. A page shows a nonce and its signature, so a
reader can try passwords of the database without asking the server; each try costs as much as this."""
SCRYPT_BYTES = 2 * 128 * SCRYPT_N * SCRYPT_R
"""The most memory that OpenSSL may take for it: twice what it needs."""


def session_cookie(request: Request) -> str:
    """The name of the cookie of a session."""
    return SECURE_SESSION_COOKIE if request.scope.get("scheme") == "https" else SESSION_COOKIE


def token(request: Request) -> str:
    """A token for a page that answers this request."""
    nonce = secrets.token_hex(8)
    return f"{nonce}.{_signature(request, nonce)}"


def check(request: Request, sent: str | None = None) -> None:
    """Raise Forbidden unless the header, or the field that was `sent`, holds a token for this request."""
    nonce, _dot, signature = (request.headers.get(HEADER) or sent or "").partition(".")
    if not hmac.compare_digest(signature.encode(), _signature(request, nonce).encode()):
        raise Forbidden(
            _("The form is not from a page of this server, or the page is too old. Reload the page and send it again.")
        )


def _signature(request: Request, nonce: str) -> str:
    session = request.cookies.get(session_cookie(request), "")
    return hmac.new(_key(request), f"{nonce}\n{session}".encode(), hashlib.sha256).hexdigest()


def prepare(app: FastAPI) -> None:
    """Read or make the key of the application, once. Raises Unavailable."""
    if not hasattr(app.state, "forms_key"):
        app.state.forms_key = key_of(app.state.settings)


def _key(request: Request) -> bytes:
    prepare(request.app)
    return cast(bytes, request.app.state.forms_key)


def key_of(settings: Settings) -> bytes:
    """The key that all web processes of an installation share, also after a restart. Several machines have a database
    with a password in common; without a password it is a file, which only its owner can read. Raises Unavailable if
    that file holds something else."""
    password = make_url(settings.database).password
    if password:
        return hashlib.scrypt(
            str(password).encode(),
            salt=SALT,
            n=SCRYPT_N,
            r=SCRYPT_R,
            p=SCRYPT_P,
            maxmem=SCRYPT_BYTES,
            dklen=KEY_BYTES,
        )
    file = settings.home / KEY_FILE
    try:
        written = read_or_write(file, lambda: secrets.token_hex(KEY_BYTES).encode())
    except OSError as error:
        log.warning("forms are valid only until this process ends: their key cannot be kept", why=str(error))
        return secrets.token_bytes(KEY_BYTES)
    if not re.fullmatch(rb"[0-9a-f]{%d}\n?" % (2 * KEY_BYTES), written):
        raise Unavailable(
            _(
                "%(file)s does not hold a key of %(bytes)s bytes, so no form can be signed. Remove the file and start "
                "the web server again: it writes a new one. Pages that are open have to be reloaded then.",
                file=str(file),
                bytes=KEY_BYTES,
            )
        )
    return bytes.fromhex(written.decode())
