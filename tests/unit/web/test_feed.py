"""What event streams watch is read once for all of them, and only after a commit."""

import asyncio
import sqlite3
from contextlib import AsyncExitStack
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.domain.accounts.ownership import Viewer
from app.domain.errors import NotFound
from app.services.workers import workers
from app.store.database.session import Database
from app.web.http.feed import Feed, Read, State, Watched

STREAMS = 50
Line = dict[str, Any]


class Log:
    """A log in memory that counts how often it is read."""

    def __init__(self, lines: int = 0) -> None:
        self.lines, self.reads, self.deleted = lines, 0, False

    def read(self, _session: Session, last_line: int) -> State:
        self.reads += 1
        if self.deleted:
            raise NotFound("deleted")
        return [{"id": n} for n in range(last_line + 1, self.lines + 1)], {"lines": self.lines}


def commit(database: Database) -> None:
    with database.transaction() as session:
        workers.sign_on(session, "w", device="cpu", device_name="", memory_bytes=None, cores=1)


async def lines_until(watched: Watched, last: int, until: int) -> list[int]:
    """The ids of a stream's lines, until it has seen the one of that id."""
    seen: list[int] = []
    while last < until:
        changed = watched.changed
        lines, _snapshot = await watched.state(last)
        seen += [line["id"] for line in lines]
        last = seen[-1] if seen else last
        if last < until:
            await changed.wait()
    return seen


def test_all_streams_of_a_run_share_one_read_after_each_commit(database: Database) -> None:
    log, feed = Log(lines=3), Feed(lambda: database)
    before = 0

    async def stream(watching: asyncio.Barrier) -> list[int]:
        async with feed.watch("run 1", log.read, 0) as watched:
            await watching.wait()
            return await lines_until(watched, 0, 5)

    async def check() -> list[list[int]]:
        nonlocal before
        watching = asyncio.Barrier(STREAMS + 1)
        streams = [asyncio.create_task(stream(watching)) for _ in range(STREAMS)]
        await watching.wait()
        before, log.lines = log.reads, 5
        await asyncio.to_thread(commit, database)
        return await asyncio.gather(*streams)

    assert asyncio.run(check()) == [[1, 2, 3, 4, 5]] * STREAMS
    assert log.reads - before <= 3  # one for the commit, one that finds no more, and one that was in progress
    assert not feed._watched


def test_a_stream_that_resumes_gets_only_what_it_has_not_seen(database: Database) -> None:
    log, feed = Log(lines=4), Feed(lambda: database)

    async def check() -> tuple[list[int], list[int], list[int]]:
        async with feed.watch("run 1", log.read, 2) as first, feed.watch("run 1", log.read, 0) as second:
            assert first is second
            return await lines_until(first, 2, 4), await lines_until(second, 0, 4), await lines_until(first, 3, 4)

    assert asyncio.run(check()) == ([3, 4], [1, 2, 3, 4], [4])


@pytest.mark.timeout(60)
def test_streams_of_what_is_deleted_end(database: Database) -> None:
    log, feed = Log(), Feed(lambda: database)

    async def check() -> bool:
        async with feed.watch("run 1", log.read, 0) as watched:
            changed, log.deleted = watched.changed, True
            await asyncio.to_thread(commit, database)
            await changed.wait()
            return watched.gone

    assert asyncio.run(check())


@pytest.mark.timeout(60)
def test_streams_of_many_users_are_read_over_one_connection(database: Database) -> None:
    in_use: list[int] = []
    elsewhere = Database(database.url.render_as_string(hide_password=False))  # the connections that commit do not count
    users = [Viewer(number) for number in range(1, 6)]
    logs = {user: Log() for user in users}

    def reading(user: Viewer) -> Read:
        def read(session: Session, last_line: int) -> State:
            session.execute(text("SELECT 1"))
            in_use.append(database.engine.pool.checkedout())  # type: ignore[attr-defined]
            return logs[user].read(session, last_line)

        return read

    async def check() -> list[bool]:
        feed = Feed(lambda: database)
        async with AsyncExitStack() as stack:
            watched = [await stack.enter_async_context(feed.watch("run 1", reading(user), 0, user)) for user in users]
            in_use.clear()
            waiting = [one.changed.wait() for one in watched]
            logs[users[1]].deleted = True
            for user in users:
                logs[user].lines = 1
            await asyncio.to_thread(commit, elsewhere)
            await asyncio.gather(*waiting)
            return [one.gone for one in watched]

    assert asyncio.run(check()) == [False, True, False, False, False]
    elsewhere.dispose()
    assert max(in_use) == 1


@pytest.mark.parametrize("error", [sqlite3.OperationalError("disk I/O error"), RuntimeError("odd")])
def test_streams_survive_a_failed_poll(database: Database, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.web.http.feed.POLL_SECONDS", 0.01)
    log, feed = Log(lines=1), Feed(lambda: database)

    def fail() -> str:
        monkeypatch.undo()
        raise error

    async def check() -> list[int]:
        async with feed.watch("run 1", log.read, 0) as watched:
            monkeypatch.setattr(database, "version", fail)
            log.lines = 2
            async with asyncio.timeout(10):
                return await lines_until(watched, 1, 2)

    assert asyncio.run(check()) == [2]
