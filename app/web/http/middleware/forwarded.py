"""A warning about a proxy that is not trusted: its visitors all count as one client, and https is not recognized."""

from collections.abc import Iterable
from ipaddress import ip_address, ip_network

import structlog
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

log = structlog.get_logger()

HEADERS = ("x-forwarded-for", "x-forwarded-proto")


class UntrustedProxyWarning:
    """Logs once if `X-Forwarded-*` comes from an address that `trusted` does not name. uvicorn ignores it then; of a
    trusted proxy it has already put the client's address in the place of the proxy's."""

    def __init__(self, app: ASGIApp, trusted: Iterable[str]) -> None:
        self.app = app
        self._trusted = [ip_network(proxy) for proxy in trusted]
        self._warned = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._warned and scope["type"] == "http":
            headers = Headers(scope=scope)
            if any(name in headers for name in HEADERS) and not self._is_trusted(scope, headers):
                self._warned = True
                log.warning(
                    "X-Forwarded-* is ignored, since it came from an address that is not trusted. If that is your "
                    "proxy, set VEZNA_FORWARDED_ALLOW_IPS to it",
                    address=(scope.get("client") or ("",))[0],
                )
        await self.app(scope, receive, send)

    def _is_trusted(self, scope: Scope, headers: Headers) -> bool:
        client = (scope.get("client") or ("",))[0]
        if not self._trusted:
            return False
        if client in (part.strip() for part in headers.get("x-forwarded-for", "").split(",")):
            return True
        try:
            address = ip_address(client)
        except ValueError:
            return True  # a Unix socket
        return any(address in network for network in self._trusted)
