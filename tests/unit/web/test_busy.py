"""What the server does with many requests: a bound on those in progress, and pages that are kept."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import pytest
from sqlalchemy import update
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.domain.accounts.policy import SCOPES, Identity, Role
from app.services.workers import workers
from app.store.database.reads import recorded
from app.store.database.session import Database
from app.store.runs import evaluations, steps
from app.store.runs import queries as run_rows
from app.store.tables import EvaluationRow, now
from app.store.workers import clock
from app.store.workers import queries as worker_rows
from app.web.http.errors import CONFLICT_KEY
from app.web.http.middleware.gate import Gate
from app.web.http.middleware.kept import KeptPages
from app.web.http.middleware.language import Language
from tests.support.filled.filled import fill

LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


def scope(path: str, method: str = "GET", query: bytes = b"", **headers: str) -> Scope:
    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "method": method, "path": path, "query_string": query, "headers": named}


async def request(app: ASGIApp, scope: Scope, body: tuple[Message, ...] = ()) -> list[Message]:
    sent: list[Message] = []
    messages = list(body) or [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Message:
        return messages.pop(0) if messages else await asyncio.Event().wait()  # type: ignore[return-value]

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


def answering(answer: Callable[[Scope], Awaitable[tuple[int, bytes]]]) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        status, body = await answer(scope)
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": body})

    return app


def test_a_request_that_finds_too_many_waiting_gets_503_and_when_to_try_again() -> None:
    async def check() -> None:
        go_on, entered = asyncio.Event(), asyncio.Event()

        async def slow(_scope: Scope) -> tuple[int, bytes]:
            entered.set()
            await go_on.wait()
            return 200, b"done"

        gate = Gate(answering(slow), at_once=1, waiting=1, seconds=60)
        first = asyncio.create_task(request(gate, scope("/api/v1/runs")))
        await entered.wait()
        second = asyncio.create_task(request(gate, scope("/api/v1/runs")))
        await asyncio.sleep(0)
        third = await request(gate, scope("/api/v1/runs"))
        assert third[0]["status"] == 503
        assert (b"retry-after", b"5") in third[0]["headers"]
        assert b"too many requests" in third[1]["body"]
        go_on.set()
        assert [answer[0]["status"] for answer in await asyncio.gather(first, second)] == [200, 200]

    asyncio.run(check())


@pytest.mark.parametrize(
    "passing",
    [
        scope("/livez"),
        scope("/static/css/vezna.css"),
        scope("/api/v1/runs/1/events"),
        scope("/api/v1/uploads/1", query=b"wait=30"),
        scope("/api/v1/uploads", "POST"),
        scope("/api/v1/uploads/files/a/b.csv", "PUT"),
        scope("/api/v1/estimates", "POST", b"wait=30"),
        scope("/api/v1/models/org/name/map", query=b"wait=30"),
        scope("/data/files", "POST"),
    ],
    ids=lambda s: f"{s['method']} {s['path']}",
)
def test_what_holds_no_thread_for_long_needs_no_turn(passing: Scope) -> None:
    async def at_once(_scope: Scope) -> tuple[int, bytes]:
        return 200, b""

    gate = Gate(answering(at_once), at_once=0)
    assert asyncio.run(request(gate, passing))[0]["status"] == 200


@pytest.mark.parametrize(
    "taking", [scope("/api/v1/studies/1/comparison", query=b"await=1"), scope("/api/v1/uploads/1/read", "POST")]
)
def test_what_only_looks_like_it_needs_a_turn(taking: Scope) -> None:
    async def at_once(_scope: Scope) -> tuple[int, bytes]:
        return 200, b""

    gate = Gate(answering(at_once), at_once=0, seconds=0.01)
    assert asyncio.run(request(gate, taking))[0]["status"] == 503


@pytest.mark.parametrize(
    "slow", [scope("/imports", "POST"), scope("/api/v1/artifacts/1/content"), scope("/api/v1/exports/1/archive")]
)
def test_slow_imports_and_downloads_leave_places_for_others(slow: Scope) -> None:
    async def check() -> None:
        async def reading(asked: Scope) -> tuple[int, bytes]:
            if asked["path"] == slow["path"]:
                await asyncio.Event().wait()
            return 200, b""

        gate = Gate(answering(reading), at_once=10, seconds=60)
        waiting = [asyncio.create_task(request(gate, slow)) for _ in range(20)]
        await asyncio.sleep(0)
        assert (await request(gate, scope("/runs")))[0]["status"] == 200
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert (gate._free._value, gate._large._value, gate._downloads._value, gate._waiting) == (10, 2, 8, 0)

    asyncio.run(check())


def test_a_client_that_sends_its_body_slowly_takes_no_turn() -> None:
    async def check() -> None:
        async def at_once(_scope: Scope) -> tuple[int, bytes]:
            return 200, b""

        gate = Gate(answering(at_once), at_once=1, waiting=1, seconds=60)
        begun: Message = {"type": "http.request", "body": b"{", "more_body": True}
        slow = [asyncio.create_task(request(gate, scope("/api/v1/runs", "POST"), (begun,))) for _ in range(3)]
        await asyncio.sleep(0)
        assert (await request(gate, scope("/api/v1/runs")))[0]["status"] == 200
        for one in slow:
            assert not one.done()
            one.cancel()

    asyncio.run(check())


def test_a_request_that_the_database_undid_because_of_another_is_repeated_from_its_beginning() -> None:
    bodies: list[bytes] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        bodies.append((await receive())["body"])
        if len(bodies) < 3:
            scope[CONFLICT_KEY] = True
        status = 503 if CONFLICT_KEY in scope else 202
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    whole: Message = {"type": "http.request", "body": b"run", "more_body": False}
    answer = asyncio.run(request(Gate(app), scope("/api/v1/runs", "POST"), (whole,)))
    assert [message.get("status") for message in answer] == [202, None]
    assert bodies == [b"run"] * 3


class Pages:
    """Makes pages, which show the names of the workers, and counts them."""

    def __init__(self, database: Database) -> None:
        self.made = 0
        self.database = database
        self.kept = KeptPages(answering(self.page), lambda: database)

    status = 200

    async def page(self, _scope: Scope) -> tuple[int, bytes]:
        self.made += 1
        made = self.made
        with self.database.reading() as session:
            await run_in_threadpool(worker_rows.all_seen, session, LONG_AGO)
        await self.while_made()
        return self.status, f"page {made}".encode()

    async def while_made(self) -> None:
        """What happens between the queries of a page and its end."""

    async def get(self, path: str = "/studies", role: Role | None = None, **headers: str) -> bytes:
        asked = scope(path, **headers)
        if role:
            asked["state"] = {"identity": Identity(1, "", "", role, SCOPES[role])}
        return bytes((await request(Language(self.kept), asked))[-1]["body"])


def sign_on(database: Database, name: str) -> None:
    with database.transaction() as session:
        workers.sign_on(session, name, device="cpu", device_name="", memory_bytes=None, cores=1)


def test_a_page_is_kept_until_what_it_shows_is_changed(database: Database) -> None:
    other = Database(database.url.render_as_string(hide_password=False))  # as another process has it

    async def check() -> None:
        pages = Pages(database)
        assert [await pages.get(), await pages.get()] == [b"page 1", b"page 1"]
        for writer, expected in ((other, b"page 2"), (database, b"page 3")):
            sign_on(writer, expected.decode())
            assert [await pages.get(), await pages.get()] == [expected, expected]

    asyncio.run(check())
    other.dispose()


def test_a_page_is_kept_when_others_commit_what_it_does_not_show(database: Database) -> None:
    async def check() -> None:
        pages = Pages(database)
        sign_on(database, "w")
        assert await pages.get() == b"page 1"
        for _ in range(2):
            with database.transaction() as session:
                worker_rows.beat(session, "w", now())
            assert await asyncio.gather(*(pages.get() for _ in range(5))) == [b"page 1"] * 5
        sign_on(database, "w2")
        assert await pages.get() == b"page 2"

    asyncio.run(check())


def test_the_database_is_read_in_the_same_way_when_a_kept_page_is_checked(database: Database) -> None:
    with database.transaction() as session:
        fill(session)
        clock.now(session)
    with recorded() as reads, database.reading() as session:
        clock.now(session)
        runs = [run.id for run in run_rows.of_study(session, 1)]
        evaluations.test_scores(session, runs)
        steps.read_many(session, runs)
    assert reads.complete and len(reads.queries) >= 3
    with database.reading() as session:
        assert reads.same(session)
    with database.transaction() as session:
        session.execute(update(EvaluationRow).where(EvaluationRow.run_id == runs[0]).values(scores=b"\0" * 8))
    with database.reading() as session:
        assert not reads.same(session)


def test_a_page_that_writes_or_reads_different_rows_is_made_again_after_the_next_commit(database: Database) -> None:
    class Overtaken(Pages):
        async def while_made(self) -> None:
            await run_in_threadpool(sign_on, self.database, f"w{self.made}")
            with self.database.reading() as session:
                worker_rows.all_seen(session, LONG_AGO)

    class Writing(Pages):
        async def while_made(self) -> None:
            with self.database.reading() as session:
                worker_rows.delete_unseen(session, LONG_AGO)

    async def check() -> None:
        for kind in (Overtaken, Writing):
            pages = kind(database)
            await pages.get()
            for made in (1, 2):
                assert pages.made == made
                with database.transaction() as session:
                    worker_rows.beat(session, "w1", now())
                await pages.get()

    asyncio.run(check())


def test_a_user_whose_role_changed_gets_a_page_of_the_new_role(database: Database) -> None:
    async def check() -> None:
        pages = Pages(database)
        seen = [await pages.get(role=role, cookie="session=1") for role in (Role.ADMIN, Role.ADMIN, Role.VIEWER)]
        assert seen == [b"page 1", b"page 1", b"page 2"]

    asyncio.run(check())


def test_viewers_who_may_see_different_things_share_no_page(database: Database) -> None:
    async def check() -> list[bytes]:
        pages = Pages(database)
        seen = [
            await pages.get(),
            await pages.get(cookie="session=1"),
            await pages.get(authorization="Bearer x"),
            await pages.get(hx_request="true"),
            await pages.get(accept_language="bg-BG,bg;q=0.9"),
            await pages.get("/runs"),
        ]
        assert await pages.get(user_agent="another browser") == seen[0]
        assert await pages.get(accept_language="de, en-GB;q=0.8") == seen[0], "the same language"
        return seen

    assert len(set(asyncio.run(check()))) == 6


def test_readers_who_come_together_have_a_page_made_once(database: Database) -> None:
    async def check() -> tuple[list[bytes], int]:
        pages = Pages(database)
        return await asyncio.gather(*(pages.get() for _ in range(20))), pages.made

    answers, made = asyncio.run(check())
    assert (set(answers), made) == ({b"page 1"}, 1)


def test_an_error_serves_those_who_wait_for_the_page_and_the_next_one_tries_again(database: Database) -> None:
    async def check() -> tuple[int, bytes]:
        pages = Pages(database)
        pages.status = 503
        await asyncio.gather(*(pages.get() for _ in range(20)))
        return pages.made, await pages.get()

    made, later = asyncio.run(check())
    assert made == 2  # the first reader's answer was begun before the others arrived
    assert later == b"page 3"


def test_kept_pages_take_no_more_memory_than_they_may(database: Database) -> None:
    async def check() -> int:
        pages = Pages(database)
        pages.kept.most_bytes = 1500
        for study in range(10):
            await pages.get(f"/studies/{study}")
        return sum(page.size for page in pages.kept._kept.values())

    assert 0 < asyncio.run(check()) <= 1500
