"""The token in every form that changes something: it proves that the form is from a page of this server, which a page
of another site cannot read. The checks of `Origin` and of `Host` come before it (`app.web.http.middleware.security`).

    token      NONCE.HMAC-SHA256(key, NONCE and the session's cookie)
    key        of the installation: random bytes in its database, read when a web process starts

Each page has another nonce, so that the token cannot be guessed from the size of compressed pages (BREACH). With a
session the token is worth nothing to another user. Without one, permission to read a page is also permission to do what
its forms do, so the token is the same for all, and pages can be kept for several readers
(`app.web.http.middleware.kept`).

A form has it as a hidden field, before its files; htmx sends it as a header.
"""

import hashlib
import hmac
import secrets
from typing import cast

from fastapi import FastAPI, Request
from sqlalchemy.exc import SQLAlchemyError

from app.domain.errors import Forbidden
from app.domain.messages import _
from app.store.requests import form_key

FIELD, HEADER = "csrf_token", "X-CSRF-Token"
SESSION_COOKIE, SECURE_SESSION_COOKIE = "vezna_session", "__Host-vezna_session"
"""Browsers accept the prefix `__Host-` over TLS alone, and then from no other host (RFC 6265bis, section 4.1.3.2)."""


def session_cookie(request: Request) -> str:
    """The name of the cookie of a session."""
    return SECURE_SESSION_COOKIE if request.scope.get("scheme") == "https" else SESSION_COOKIE


def token(request: Request) -> str:
    """A token for a page that answers this request; empty on the page that says that the database does not answer, if
    it has not answered since this process began."""
    nonce = secrets.token_hex(8)
    try:
        return f"{nonce}.{_signature(request, nonce)}"
    except SQLAlchemyError:
        return ""


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
    """Read the key of the application, once."""
    if not hasattr(app.state, "forms_key"):
        with app.state.database.reading() as session:
            app.state.forms_key = form_key.get(session)


def _key(request: Request) -> bytes:
    prepare(request.app)
    return cast(bytes, request.app.state.forms_key)
