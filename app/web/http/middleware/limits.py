"""How much one client may ask for: requests in a minute, and open event streams.

    client     the address (of IPv6 its /64, which one household or machine has), and beside it the API token, if any
    requests   a bucket that holds a minute's worth and fills evenly: a page and its files at once, and many in a row

A client on this machine is not limited, nor one without an address (a Unix socket). A proxy is one client, unless
`VEZNA_FORWARDED_ALLOW_IPS` names it: then its clients are known by their own addresses. Every process of the web server
counts for itself.
"""

import hashlib
import math
import time
from collections import OrderedDict
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from app.domain.accounts.clients import network_of
from app.web.http.errors import too_many_requests

MOST_CLIENTS = 10_000
"""Whose buckets are kept. The longest idle one goes first: it is full again, or nearly so, if there are not more
clients than this in a minute."""
MINUTE = 60.0


def client_of(scope: Scope) -> str:
    """What a client is limited by; empty for one that is not."""
    network, loopback = network_of((scope.get("client") or ("",))[0])
    return "" if loopback else network


class Buckets:
    """What each client may still ask for."""

    def __init__(self, a_minute: int, clock: Callable[[], float] = time.monotonic, most: int = MOST_CLIENTS) -> None:
        self.a_minute, self._clock, self._most = a_minute, clock, most
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """Requests that are left, and when that was counted."""

    def take(self, client: str) -> float:
        """Count a request: 0, or if none is left the seconds until the next one."""
        at, rate = self._clock(), self.a_minute / MINUTE
        left, since = self._left.pop(client, (float(self.a_minute), at))
        left = min(self.a_minute, left + (at - since) * rate)
        wait = 0.0 if left >= 1 else (1 - left) / rate
        self._left[client] = (left - 1 if not wait else left, at)
        while len(self._left) > self._most:
            self._left.popitem(last=False)
        return wait


class LimitedRate:
    """Answers 429 to a client that asks for too much. Static files and `/livez` do not count."""

    def __init__(self, app: ASGIApp, a_minute: int) -> None:
        self.app = app
        self.buckets = Buckets(a_minute) if a_minute else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.buckets and scope["type"] == "http" and not _is_free(scope["path"]):
            wait = max((self.buckets.take(client) for client in _clients(scope)), default=0.0)
            if wait:
                await too_many_requests(Request(scope), math.ceil(wait))(scope, receive, send)
                return
        await self.app(scope, receive, send)


def _is_free(path: str) -> bool:
    return path == "/livez" or path.startswith("/static/")


def _clients(scope: Scope) -> list[str]:
    """By which a request counts: its address, and its token, which several machines may use."""
    address = client_of(scope)
    if not address:
        return []
    kind, _space, token = Headers(scope=scope).get("authorization", "").partition(" ")
    if kind.lower() != "bearer":  # `Basic` would be the password of a proxy, which its users have in common
        return [address]
    return [address, hashlib.sha256(token.encode()).hexdigest()]
