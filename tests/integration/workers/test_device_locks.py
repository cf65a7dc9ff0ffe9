"""Transactions that give out GPUs wait for each other on PostgreSQL, but never in a circle."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier, Event
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from app.broker.queue import TRAIN
from app.services.runs import attempts
from app.services.studies import studies
from app.services.workers import sweep
from app.settings import Settings
from app.store.database.session import Database
from app.store.files.files import Files
from app.store.resources import devices
from app.store.workers import clock, queue, usage
from app.store.workers import queries as worker_queries
from tests.features.quotas.test_quotas import Account, live, member, submit_study  # noqa: F401 fixtures
from tests.features.quotas.test_quotas import claim as claim_for
from tests.integration.workers.test_devices import CARDS, A, B, C, claim, claimed, holders, sign_on
from tests.support.fakes.fakes import SilentBell
from tests.support.ingested import context
from tests.support.rows.attempted import in_transaction, let_lease_expire, row, submit
from tests.support.rows.results import result
from worker import tasks
from worker.machine.device import Card, Device

SECONDS = 30


@pytest.fixture(params=["postgresql"])
def database(database: Database) -> Database:
    """SQLite has one writer, and so no two transactions that wait for each other."""
    return database


def until_waiting(db: Database, transactions: int = 1) -> None:
    """Wait until transactions wait for a lock."""
    with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        query = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = :name")
        for _ in range(SECONDS * 1000):
            if connection.scalar(query, {"name": db.url.database}) >= transactions:
                return
    raise AssertionError("nothing waits for a lock")


@pytest.mark.slow
def test_a_sign_on_and_a_sweep_of_two_lost_runs_both_succeed(
    registered: Database, bell: SilentBell, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_on(registered, "w1", *CARDS[:2])
    lost = [claimed(registered, bell, "w1", uuid) for uuid in (B, A)]  # the later UUID first
    for held in lost:
        let_lease_expire(registered, held.run_id)
    release, first = worker_queries.release, Event()

    def let_the_other_begin(*arguments: Any) -> None:
        release(*arguments)
        if not first.is_set():
            first.set()
            until_waiting(registered)

    monkeypatch.setattr(worker_queries, "release", let_the_other_begin)
    with ThreadPoolExecutor(1) as pool:
        swept = pool.submit(in_transaction, registered, lambda s: sweep.sweep(s, bell, settings))
        assert first.wait(SECONDS)
        sign_on(registered, "w1", *CARDS[:2])
        assert swept.result().requeued == 2
    assert set(holders(registered).values()) == {(None, None, None)}


def occupy_after_release(monkeypatch: pytest.MonkeyPatch, then: Callable[[], None] = lambda: None) -> Event:
    """Let a claim reach the worker's row only after an end has changed it; `then` is called between. Returns an event
    that is set when the claim has its locks but for that row."""
    occupy, release, taken, released = worker_queries.occupy, worker_queries.release, Event(), Event()

    def occupy_late(*arguments: Any) -> None:
        taken.set()
        assert released.wait(SECONDS)
        occupy(*arguments)

    def release_first(*arguments: Any) -> None:
        release(*arguments)
        released.set()
        then()

    monkeypatch.setattr(worker_queries, "occupy", occupy_late)
    monkeypatch.setattr(worker_queries, "release", release_first)
    return taken


def test_the_end_of_an_attempt_and_a_claim_by_the_same_worker_both_succeed(
    registered: Database, bell: SilentBell, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_on(registered, "w1", *CARDS[:2])
    held = claimed(registered, bell, "w1", A)
    refused = submit(registered, bell)
    in_transaction(registered, lambda s: queue.to_ring(s, refused))
    taken = occupy_after_release(monkeypatch)
    with ThreadPoolExecutor(1) as pool:
        claiming = pool.submit(claim, registered, refused, "w1", B)
        assert taken.wait(SECONDS)
        in_transaction(registered, lambda s: attempts.hand_back(s, bell, held, "bye"))
        found = claiming.result()
    assert found is not None and found.gpus == (B,)
    assert holders(registered)[A] == (None, None, None)


def test_a_sweep_that_ends_a_run_passes_a_claim_by_the_same_worker(
    registered: Database, bell: SilentBell, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_on(registered, "w1", *CARDS[:3])
    lost = claimed(registered, bell, "w1", A)
    let_lease_expire(registered, lost.run_id)
    waiting = submit(registered, bell)
    in_transaction(registered, lambda s: queue.to_ring(s, waiting))
    taken = occupy_after_release(monkeypatch, lambda: until_waiting(registered))
    with ThreadPoolExecutor(1) as pool:
        claiming = pool.submit(claim, registered, waiting, "w1", B)
        assert taken.wait(SECONDS)
        in_transaction(registered, lambda s: sweep.sweep(s, bell, settings))
        assert claiming.result() is not None
    assert (row(registered, lost.run_id).status, row(registered, waiting).status) == ("queued", "running")


def test_two_attempts_that_end_at_once_ring_for_two_runs(
    registered: Database, bell: SilentBell, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_on(registered, "w1", *CARDS[:2])
    sign_on(registered, "w2", *CARDS[2:])
    held = [claimed(registered, bell, "w1", A), claimed(registered, bell, "w2", C)]
    refused = [submit(registered, bell) for _ in range(2)]
    for run_id in refused:
        in_transaction(registered, lambda s, run_id=run_id: queue.to_ring(s, run_id))
    bell.rung.clear()
    unrung, both = queue.unrung, Barrier(2)

    def together(*arguments: Any, **named: Any) -> list[int]:
        found: list[int] = unrung(*arguments, **named)
        both.wait(SECONDS)
        return found

    def end(place: int) -> None:
        in_transaction(registered, lambda s: attempts.hand_back(s, bell, held[place], "bye"))

    monkeypatch.setattr(queue, "unrung", together)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(end, range(2)))
    assert [bell.rung.count((TRAIN, run_id)) for run_id in refused] == [1, 1]


def test_the_end_of_a_run_and_the_cancel_of_its_study_both_succeed(
    member: Account,  # noqa: F811
    registered: Database,
    bell: SilentBell,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The cancel has locked earlier runs of the study and waits for the one that ends; the end rings for the owner's
    next run, and passes over those that are locked."""
    member.limit(concurrent_runs=1)
    study = submit_study(member.db, bell)
    waiting = live(registered)
    ending = waiting.pop(2)
    mine = claim_for(registered, ending, 1.0)
    charge, holds = usage.charge, Event()

    def let_the_cancel_wait(*arguments: Any) -> None:
        charge(*arguments)
        holds.set()
        until_waiting(registered)

    monkeypatch.setattr(usage, "charge", let_the_cancel_wait)
    with ThreadPoolExecutor(1) as pool:
        finished = pool.submit(in_transaction, registered, lambda s: attempts.finish(s, bell, mine, result(), {}))
        assert holds.wait(SECONDS)
        in_transaction(member.db, lambda s: studies.cancel(s, bell, study))
        finished.result()
    assert row(registered, ending).status == "succeeded"
    assert {row(registered, run_id).status for run_id in waiting} == {"cancelled"}


def test_a_worker_signs_on_again_when_its_transaction_fails(
    registered: Database, files: Files, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "SIGN_ON_AGAIN_SECONDS", 0.0)
    register, failing = devices.register, [OperationalError("INSERT", None, Exception("deadlock detected"))] * 2

    def fail_twice(*arguments: Any) -> None:
        register(*arguments)
        if failing:
            raise failing.pop()

    monkeypatch.setattr(devices, "register", fail_twice)
    worker = context(settings.model_copy(update={"worker_name": "w1"}), registered, files)
    cards = tuple(Card(uuid=gpu.uuid, name=gpu.name, memory_bytes=gpu.memory_bytes, bf16=True) for gpu in CARDS[:2])
    found = Device("cuda", "NVIDIA L4", 24 * 2**30, 8, bf16=True, cards=cards)
    assert tasks.sign_on(worker, found, Event())
    assert failing == []
    with registered.reading() as session:
        [row] = worker_queries.all_seen(session, clock.now(session) - timedelta(minutes=1))
    assert [gpu.uuid for gpu in row.devices] == [A, B]
    stopping = Event()
    stopping.set()
    assert not tasks.sign_on(worker, found, stopping)
