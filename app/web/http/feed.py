"""What the event streams of this process watch: read once for all streams of the same run or study, and only after a
commit. Without streams nothing is read."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import cached_property
from typing import Any

import structlog
from pydantic_core import to_json
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from app.domain.accounts.ownership import Viewer
from app.domain.errors import NotFound, TooMany, Unavailable
from app.domain.messages import _
from app.store.database.session import Database

log = structlog.get_logger()

POLL_SECONDS = 0.5
POLL_AGAIN_SECONDS = 5
MOST_STREAMS = 1000
KEPT_LINES = 1000


class Snapshot(dict[str, Any]):
    """Fields of a run or study, with the text of an event about them, which is made once for all streams."""

    @cached_property
    def text(self) -> str:
        """As JSON; NaN and infinity are null."""
        return to_json(self, inf_nan_mode="null").decode()


State = tuple[list[dict[str, Any]], Snapshot]
"""New lines of a log, and a snapshot."""
Read = Callable[[Session, int], State]
"""Reads the lines after an id, and the snapshot. Raises NotFound."""


class Watched:
    """One run or study, as its streams see it."""

    def __init__(self, database: Database, read: Read, state: State, last_line: int) -> None:
        self.database, self.read = database, read
        self.streams, self.gone = 0, False
        lines, self.snapshot = state
        self.last_line, self._first = lines[-1]["id"] if lines else last_line, last_line
        self._lines = deque(lines, maxlen=KEPT_LINES)
        self.changed = asyncio.Event()
        """Set with the next state; another takes its place."""

    def update(self, state: State | None) -> None:
        """Take a new state, or that there is none any more, and wake the streams."""
        if state is None:
            self.gone = True
        else:
            lines, snapshot = state
            if not lines and snapshot == self.snapshot:
                return
            self.snapshot = snapshot
            for line in lines:
                if len(self._lines) == KEPT_LINES:
                    self._first = self._lines[0]["id"]
                self._lines.append(line)
                self.last_line = line["id"]
        before, self.changed = self.changed, asyncio.Event()
        before.set()

    async def state(self, last_line: int, *, fresh: bool = False) -> State:
        """The lines after an id and the snapshot: from memory, or from the database if memory lacks some of them, or
        if they must be `fresh`. Raises NotFound."""
        if last_line >= self._first and not fresh:
            return [line for line in self._lines if line["id"] > last_line], self.snapshot
        return await run_in_threadpool(_one, self.database, self.read, last_line)


class Feed:
    """The streams of a process, and the one task that reads for all of them."""

    def __init__(
        self, database: Callable[[], Database], most: int = MOST_STREAMS, most_per_client: int = MOST_STREAMS
    ) -> None:
        self._database, self._most, self._most_per_client = database, most, most_per_client
        self._watched: dict[object, Watched] = {}
        self._open = 0
        self._streams: Counter[str] = Counter()
        """Open streams by client, and by user."""
        self._task: asyncio.Task[None] | None = None

    async def place(self, *holders: str) -> AsyncIterator[None]:
        """A dependency that a stream holds until it ends. Raises Unavailable for one too many, and TooMany for one too
        many of one of its holders, the client and the user; a holder without a name has no limit."""
        if self._open >= self._most:
            raise Unavailable(
                _("%(most)s event streams are open, and the server keeps no more. Poll instead.", most=self._most)
            )
        names = [name for name in holders if name]
        if any(self._streams[name] >= self._most_per_client for name in names):
            raise TooMany(
                _(
                    "This client or user has %(most)s event streams open, which is the most. Close one, or poll "
                    "instead.",
                    most=self._most_per_client,
                ),
                POLL_AGAIN_SECONDS,
            )
        self._open += 1
        self._streams.update(names)
        try:
            yield
        finally:
            self._open -= 1
            self._streams.subtract(names)
            for name in names:
                if not self._streams[name]:
                    del self._streams[name]

    @asynccontextmanager
    async def watch(
        self, key: object, read: Read, last_line: int, viewer: Viewer | None = None
    ) -> AsyncIterator[Watched]:
        """Follow what `read` reads, shared with every stream of the same key and viewer. Raises NotFound."""
        database, key = self._database().seen_by(viewer), (key, viewer)
        watched = self._watched.get(key)
        if watched is None:
            state = await run_in_threadpool(_one, database, read, last_line)
            watched = self._watched.setdefault(key, Watched(database, read, state, last_line))
        watched.streams += 1
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._follow(), name="event streams")
        try:
            yield watched
        finally:
            watched.streams -= 1
            if not watched.streams and self._watched.get(key) is watched:
                del self._watched[key]

    async def _follow(self) -> None:
        """Read everything that is watched after each commit, for as long as something is."""
        last_read: tuple[str, frozenset[object]] | None = None
        while self._watched:
            reading = list(self._watched.items())
            names = frozenset(key for key, _watched in reading)
            try:
                version = await run_in_threadpool(self._database().version)
                if (version, names) != last_read:
                    states = await run_in_threadpool(_all, [watched for _key, watched in reading])
                    for (_key, watched), state in zip(reading, states, strict=True):
                        watched.update(state)
                    # a read has a limit, so that new lines may be followed by more
                    last_read = None if any(state and state[0] for state in states) else (version, names)
            except Exception as error:  # the streams go on when the database answers again
                log.warning("event streams could not be read; the next poll tries again", error=repr(error))
            await asyncio.sleep(POLL_SECONDS)


def _one(database: Database, read: Read, last_line: int) -> State:
    with database.reading() as session:
        return read(session, last_line)


def _all(watched: list[Watched]) -> list[State | None]:
    """The state of each; None of what was deleted, or is no longer visible to its viewer. A session for each viewer,
    one after the other: a single connection is in use, however many viewers there are."""
    by_viewer: dict[Viewer | None, list[Watched]] = {}
    for one in watched:
        by_viewer.setdefault(one.database.viewer, []).append(one)
    states: dict[Watched, State] = {}
    for group in by_viewer.values():
        with group[0].database.reading() as session:
            for one in group:
                with suppress(NotFound):
                    states[one] = one.read(session, one.last_line)
    return [states.get(one) for one in watched]
