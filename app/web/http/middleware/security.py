"""Checks before every route: the path and the host name of the request, and the origin of a write; and headers of every
answer."""

import re
from collections.abc import Collection
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.domain.messages import _
from app.settings import LOOPBACK
from app.web.http.errors import problem, wants_json
from app.web.site import error_form
from app.words.i18n import localized, marked

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""Content-Security-Policy of pages: nothing from elsewhere, and no script or style that stands in the page itself, also
not in an attribute. Charts are drawn on the server, so no page evaluates text as a script. `data:` is for pictures in
stylesheets."""
NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
"""The policy of files that a browser may open beside the pages."""
BAD_REQUEST = marked("Bad request")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
UNUSED = (
    "accelerometer", "autoplay", "camera", "display-capture", "encrypted-media", "fullscreen", "geolocation",
    "gyroscope", "magnetometer", "microphone", "midi", "payment", "picture-in-picture", "publickey-credentials-get",
    "screen-wake-lock", "serial", "usb", "xr-spatial-tracking",
)  # fmt: skip
"""Features of browsers that no page needs. A browser complains of names that it does not know."""
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "permissions-policy": ", ".join(f"{feature}=()" for feature in UNUSED),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
"""Headers of every answer that sets none of its own."""
ONLY_BY_TLS = "max-age=31536000"
"""Strict-Transport-Security: for a year a browser calls this host by https only. Other hosts of the domain decide for
themselves."""


def host_name(scope: Scope) -> str:
    """The name by which a request calls the server, without a port."""
    return re.sub(r":\d*$", "", Headers(scope=scope).get("host", "")).lower()


class NoControlCharacters:
    """Refuses a path with control characters, and a query with NUL. No name in Vezna has any, and parts of the server
    read them differently: a route and the conversion to a number ignore a newline, other checks of the same path do
    not."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and CONTROL.search(scope["path"]):
            detail = _("The path of the address has control characters (%00 to %1F, %7F). Send it without them.")
            await _refusal(scope, 400, BAD_REQUEST, detail)(scope, receive, send)
            return
        if scope["type"] == "http" and b"%00" in scope["query_string"]:  # PostgreSQL takes no NUL
            detail = _("The query of the address has the character %00. Send it without it.")
            await _refusal(scope, 400, BAD_REQUEST, detail)(scope, receive, send)
            return
        await self.app(scope, receive, send)


class KnownHost:
    """Refuses a request for a host name that is not the server's (DNS rebinding). Ports do not count. At the port of
    the probes any IP address is accepted as well, since a collector calls a process by it; it cannot be rebound."""

    def __init__(self, app: ASGIApp, names: Collection[str], addresses_at: int | None = None) -> None:
        self.app, self.addresses_at = app, addresses_at
        self.names = frozenset(name.lower() for name in names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (name := host_name(scope)) not in self.names and not self._by_address(scope):
            detail = _(
                "The host name %(name)s is not allowed. If it is this server, add it to VEZNA_ALLOWED_HOSTS.",
                name=repr(name),
            )
            await _refusal(scope, 400, BAD_REQUEST, detail)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _by_address(self, scope: Scope) -> bool:
        server = scope.get("server")
        if self.addresses_at is None or server is None or server[1] != self.addresses_at:
            return False
        try:
            ip_address(host_name(scope).strip("[]"))
        except ValueError:
            return False
        return True


class SameOrigin:
    """Refuses a write that a browser sends from another site (CSRF): by Sec-Fetch-Site, else by Origin.

    A client that sends neither is not a browser, so it carries no user's cookies and no user's network position.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] not in SAFE_METHODS and self._foreign(Headers(scope=scope)):
            detail = _("This request came from another site, so it was refused. Send it from this server's own pages.")
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
    if form := error_form(scope["path"]):
        return form(status, "refused", detail, ())
    if wants_json(Request(scope)):
        return problem(status, "refused", title, detail)
    return PlainTextResponse(localized(detail), status)


class SafeHeaders:
    """Adds headers that forbid browsers what this site never does. Outside of everything else, so that no answer of the
    application lacks them."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add the headers to every answer that does not set its own."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": list(message.get("headers", ()))}
                headers = MutableHeaders(raw=message["headers"])
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if scope.get("scheme") == "https" and host_name(scope) not in LOOPBACK:
                    headers["strict-transport-security"] = ONLY_BY_TLS
            await send(message)

        await self.app(scope, receive, with_headers)
