"""Checks before every route: the host name of the request, and the origin of a write."""

import re
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.web.http.errors import problem, wants_json

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
HEADERS = {
    "content-security-policy": (
        "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; object-src 'none'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
}


class KnownHost:
    """Refuses a request for a host name that is not the server's (DNS rebinding). Ports do not count."""

    def __init__(self, app: ASGIApp, names: Collection[str]) -> None:
        self.app = app
        self.names = frozenset(name.lower() for name in names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or answer 400."""
        if scope["type"] == "http" and (name := self._name(Headers(scope=scope))) not in self.names:
            detail = f"The host name {name!r} is not allowed. If it is this server, add it to VEZNA_ALLOWED_HOSTS."
            await _refusal(scope, 400, "Bad request", detail)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    @staticmethod
    def _name(headers: Headers) -> str:
        return re.sub(r":\d*$", "", headers.get("host", "")).lower()


class SameOrigin:
    """Refuses a write that a browser sends from another site (CSRF): by Sec-Fetch-Site, else by Origin.

    A client that sends neither is not a browser, so it carries no user's cookies and no user's network position.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or answer 403."""
        if scope["type"] == "http" and scope["method"] not in SAFE_METHODS and self._foreign(Headers(scope=scope)):
            detail = "This request came from another site, so it was refused. Send it from this server's own pages."
            await _refusal(scope, 403, "Forbidden", detail)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    @staticmethod
    def _foreign(headers: Headers) -> bool:
        site = headers.get("sec-fetch-site")
        if site is not None:
            return site not in ("same-origin", "none")
        origin = headers.get("origin")
        return origin is not None and urlsplit(origin).netloc != headers.get("host", "")


def _refusal(scope: Scope, status: int, title: str, detail: str) -> Response:
    """A problem for programs; plain text for browsers, since a page would link to addresses of another site."""
    if wants_json(Request(scope)):
        return problem(status, "refused", title, detail)
    return PlainTextResponse(detail, status)


class SafeHeaders:
    """Adds headers that forbid browsers what this site never does."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add the headers to every answer that does not set its own."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message["headers"])
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, with_headers)
