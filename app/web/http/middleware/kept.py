"""Pages that are kept until what they show changes: the lists and the pages of studies, and the pages of classes, which
many people read.

An answer is kept under its address, the identity, the language, and every request header that may change what a
viewer sees, with the database's version (`Database.version`), which any commit of any process changes. After a commit
the queries of a page are repeated (`app.store.database.reads`): if they return the same rows, as they do for a study
that has ended, the page is kept. One request makes or checks a page; those that arrive meanwhile wait for it without a
thread. After `KEPT_SECONDS` a page is made again even if nothing has changed, since a worker counts as lost by the
clock alone."""

import asyncio
import re
import sqlite3
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from weakref import WeakValueDictionary

from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.store.database.reads import Reads, recorded
from app.store.database.session import Database
from app.web.http.access import identity_of
from app.words.i18n import language

PATHS = re.compile(
    r"/studies|/runs|/studies/\d+(/(arms|costs|errors|weights|conditions|causes)|/report\.html)?"
    r"|/api/v1/(studies|runs)|/api/v1/studies/\d+(/comparison)?"
    r"|/lab/classes/\d+|/lab/join/[\w-]+(/charts/pool\.\w+)?|/api/v1/classes/\d+"
)
VIEWER_HEADERS = re.compile(rb"host|accept|accept-encoding|authorization|cookie|hx-.*|x-forwarded-.*")
"""Headers by which two viewers may get different answers."""
KEPT_SECONDS = 30.0
MOST_BYTES = 64 << 20

Key = tuple[object, ...]


@dataclass(frozen=True)
class _Kept:
    version: str | None
    began: float
    """Monotonic seconds at which rendering began. A request that arrived before that may have the page, whatever has
    changed since."""
    messages: tuple[Message, ...]
    route: object
    size: int
    reads: Reads | None = None
    """The queries of the page, if they are all that it executed."""


class _Turn:
    """Requests that wait for one page: the first of them makes it."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.answer: _Kept | None = None
        """The last answer, an error too: it serves every request that arrived before it was begun."""


class KeptPages:
    """Answers from memory what has not changed."""

    def __init__(self, app: ASGIApp, database: Callable[[], Database], most_bytes: int = MOST_BYTES) -> None:
        self.app = app
        self.database, self.most_bytes = database, most_bytes
        self._kept: OrderedDict[Key, _Kept] = OrderedDict()
        self._bytes = 0
        self._turns: WeakValueDictionary[Key, _Turn] = WeakValueDictionary()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer from memory, or pass on and keep the answer."""
        if scope["type"] != "http" or scope["method"] != "GET" or not PATHS.fullmatch(scope["path"]):
            await self.app(scope, receive, send)
            return
        arrived = time.monotonic()
        key = _key(scope)
        if not (kept := await self._current(key, arrived)):
            if (turn := self._turns.get(key)) is None:
                turn = self._turns[key] = _Turn()
            async with turn.lock:
                if turn.answer is not None and turn.answer.began >= arrived:
                    kept = turn.answer
                elif not (kept := await self._current(key, arrived) or await self._unchanged(key)):
                    turn.answer = await self._make(key, scope, receive, send)
                    return
        scope["route"] = kept.route
        for message in kept.messages:
            await send(dict(message))

    async def _current(self, key: Key, arrived: float) -> _Kept | None:
        """What is kept, if it is as good as a page made now."""
        kept = self._kept.get(key)
        if kept is None or kept.began >= arrived:
            return kept
        if time.monotonic() - kept.began > KEPT_SECONDS or kept.version != await self._version():
            return None
        if key in self._kept:  # it may have been dropped meanwhile
            self._kept.move_to_end(key)
        return kept

    async def _unchanged(self, key: Key) -> _Kept | None:
        """What is kept, if its queries still return the same rows."""
        kept = self._kept.get(key)
        if kept is None or kept.reads is None or time.monotonic() - kept.began > KEPT_SECONDS:
            return None
        version = await self._version()
        if version is None or not await run_in_threadpool(self._same, kept.reads):
            return None
        self._keep(key, kept := replace(kept, version=version))
        return kept

    def _same(self, reads: Reads) -> bool:
        try:
            with self.database().reading() as session:
                return reads.same(session)
        except SQLAlchemyError:  # the application says so
            return False

    async def _version(self) -> str | None:
        try:
            return await run_in_threadpool(self.database().version)
        except (SQLAlchemyError, sqlite3.Error):  # the application says so
            return None

    async def _make(self, key: Key, scope: Scope, receive: Receive, send: Send) -> _Kept:
        """Have the application answer, and keep that if it is a page; sent only once it is complete, so that a slow
        reader does not delay other requests for the same page. Returns the answer."""
        began, version = time.monotonic(), await self._version()
        messages: list[Message] = []

        async def collect(message: Message) -> None:
            messages.append(message)

        with recorded() as reads:
            await self.app(scope, receive, collect)
        size = sum(len(message.get("body", b"")) for message in messages)
        size += reads.size
        answer = _Kept(version, began, tuple(messages), scope.get("route"), size, reads if reads.complete else None)
        if version is not None and messages and messages[0].get("status") == 200:
            self._keep(key, answer)
        for message in messages:
            await send(dict(message))
        return answer

    def _keep(self, key: Key, page: _Kept) -> None:
        if old := self._kept.pop(key, None):
            self._bytes -= old.size
        self._kept[key] = page
        self._bytes += page.size
        while self._bytes > self.most_bytes:
            self._bytes -= self._kept.popitem(last=False)[1].size


def _key(scope: Scope) -> Key:
    headers = tuple((name, value) for name, value in scope["headers"] if VIEWER_HEADERS.fullmatch(name))
    return scope["path"], scope["query_string"], headers, identity_of(scope), language()
