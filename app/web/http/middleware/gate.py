"""A bound on the requests that are worked on at once; the others wait for their turn, and a queue that is too long is
answered 503 with Retry-After.

A request takes a thread and one or two database connections, also for a moment between two threads. Fewer requests than
threads, and twice as many connections, mean that none ever waits for something that another waiting request holds.
Uploads, event streams and waits for an estimate last long and hold neither meanwhile, so they do not count.
"""

import asyncio
import re
from collections.abc import Sequence

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.web.http.errors import AGENTS, CONFLICT_KEY, busy

AT_ONCE = 16
"""Below anyio's 40 threads, and half of the connections that `Database` opens at most."""
MOST_WAITING = 400
WAIT_SECONDS = 20.0
MOST_REPEATS = 3
"""Repeats of a request whose transaction the database undid because of another one (a deadlock)."""
READ_BEFORE_BYTES = 1 << 19
"""Bytes of a body that are read before the turn, so that a slow client waits outside. Half of the limit that holds
before a route is chosen."""
PROBES = ("/livez", "/readyz", "/metrics")
UPLOADS = re.compile(r"/data/files|/api/v1/uploads(/files/.+)?|/v1/files")
LARGE_FORMS = ("/imports", "/api/v1/imports")
"""Their routes have a larger limit of their own, so their bodies are read inside, by few at a time."""
MOST_LARGE = 2
DOWNLOADS = re.compile(r"/api/v1/(artifacts|exports)/\d+/(content|archive|files/.+)|/v1/files/[^/]+/content")
"""Routes that read the files store, which may answer late or not at all."""
MOST_DOWNLOADS = 8
MOST_SENDING = 1000
"""Clients that are sending their bodies; slow ones do not keep others from waiting for a turn."""
WAITS = re.compile(r"/api/v1/(datasets/[^/]+(/preview)?|estimates|models/.+/map|uploads/\d+|exports/\d+)")
"""Routes that may wait for a worker (`app.web.http.waiting`)."""
ANSWERS = re.compile(r"/api/v1/runs/\d+/predict|/playground(/answer)?")
"""Routes that wait for the inference worker."""


class Gate:
    """Lets `at_once` requests in. A place is free again once the response begins: what remains is sending."""

    def __init__(
        self, app: ASGIApp, at_once: int = AT_ONCE, waiting: int = MOST_WAITING, seconds: float = WAIT_SECONDS
    ) -> None:
        self.app = app
        self._free = asyncio.Semaphore(at_once)
        self._large = asyncio.Semaphore(min(at_once, MOST_LARGE))
        self._downloads = asyncio.Semaphore(min(at_once, MOST_DOWNLOADS))
        self._most_waiting, self._seconds, self._waiting, self._sending = waiting, seconds, 0, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on when it is this request's turn, or answer 503."""
        if scope["type"] != "http" or _holds_nothing(scope):
            await self.app(scope, receive, send)
            return
        large = scope["path"].startswith(LARGE_FORMS)
        body = _Body(receive)
        if not large and not await self._received(body):
            await busy(Request(scope))(scope, receive, send)
            return
        few = [self._large] if large else [self._downloads] if DOWNLOADS.fullmatch(scope["path"]) else []
        places = (*few, self._free)
        if not await self._entered(places):
            await busy(Request(scope))(scope, receive, send)
            return
        held = True

        def leave() -> None:
            nonlocal held
            if held:
                held = False
                for place in places:
                    place.release()

        async def leaving(message: Message) -> None:
            leave()
            await send(message)

        try:
            await _repeating(self.app, scope, body, leaving)
        finally:
            leave()

    async def _received(self, body: "_Body") -> bool:
        """Receive a body. False if too many clients are sending theirs."""
        if self._sending >= MOST_SENDING:
            return False
        self._sending += 1
        try:
            await body.read()
        finally:
            self._sending -= 1
        return True

    async def _entered(self, places: Sequence[asyncio.Semaphore]) -> bool:
        """Wait for a turn. False if too many wait, or it does not come in time."""
        if self._waiting >= self._most_waiting:
            return False
        self._waiting += 1
        taken: list[asyncio.Semaphore] = []
        try:
            async with asyncio.timeout(self._seconds):
                for place in places:
                    await place.acquire()
                    taken.append(place)
        except BaseException as error:
            for place in taken:
                place.release()
            if isinstance(error, TimeoutError):
                return False
            raise
        finally:
            self._waiting -= 1
        return True


def _holds_nothing(scope: Scope) -> bool:
    path = scope["path"]
    if path in PROBES or path == AGENTS or path.startswith("/static/"):
        return True
    if scope["method"] in ("POST", "PUT") and UPLOADS.fullmatch(path):
        return True
    if (path.startswith("/api/") and path.endswith("/events")) or ANSWERS.fullmatch(path):
        return True
    return b"wait=" in scope["query_string"] and WAITS.fullmatch(path) is not None


class _Body:
    """The body of a request, or its first MiB: received once, to be read as often as needed."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._messages: list[Message] = []
        self.complete = False

    async def read(self) -> None:
        size, more = 0, True
        while more and size <= READ_BEFORE_BYTES:
            message = await self._receive()
            self._messages.append(message)
            size += len(message.get("body", b""))
            more = bool(message.get("more_body", False))
        self.complete = not more

    def again(self) -> Receive:
        """A `receive` from its beginning."""
        left = self._messages[::-1]

        async def receive() -> Message:
            return left.pop() if left else await self._receive()

        return receive


async def _repeating(app: ASGIApp, scope: Scope, body: _Body, send: Send) -> None:
    """Have the application answer; once more, from the beginning, while the database undoes its transaction because of
    another one."""
    original = dict(scope)
    for last in (*[False] * MOST_REPEATS, True):

        async def sending(message: Message, last: bool = last) -> None:
            if last or not _undone(scope, body):
                await send(message)

        await app(scope, body.again(), sending)
        if last or not _undone(scope, body):
            return
        scope.clear()
        scope.update(original)


def _undone(scope: Scope, body: _Body) -> bool:
    return body.complete and CONFLICT_KEY in scope
