"""A run with more GPUs than one worker has takes those of several, all or none, and each worker frees its own."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from threading import Barrier

import pytest
from sqlalchemy import update

from app.domain.failures import Failure, FailureCode
from app.domain.resources.devices import Gpu
from app.domain.runs.hosts import HostState, blamed, of_connection
from app.domain.runs.job import Place
from app.domain.runs.training import TrainingArguments
from app.services.runs import attempts, runs
from app.services.runs.attempts import Claim, Fenced, hosts
from app.services.workers import scheduling, sweep, workers
from app.settings import Settings
from app.store.database.session import Database
from app.store.tables import RunHostRow, WorkerRow, now
from app.store.workers import clock
from app.store.workers import queries as worker_queries
from tests.integration.workers.test_devices import CARDS, A, B, C, D, claim, holders
from tests.support.fakes.fakes import SilentBell
from tests.support.rows.attempted import LEASE, SPEC, in_transaction, let_lease_expire, row, submit
from tests.support.rows.results import result

FREE = (None, None, None)


def spec(devices: int) -> object:
    """A run on so many devices."""
    training = TrainingArguments(devices=devices, gradient_accumulation_steps=devices)
    return SPEC.model_copy(update={"training": training})


def sign_on(db: Database, name: str, *cards: Gpu, address: str | None = "10.0.0.1") -> None:
    """Register a worker that others reach."""
    facts = {"device": "cuda", "device_name": "NVIDIA L4", "memory_bytes": 24 * 2**30, "cores": 8, "address": address}
    in_transaction(db, lambda s: workers.sign_on(s, name, gpus=cards, **facts))


def three(db: Database, bell: SilentBell) -> int:
    """A run on three GPUs, of which `w1` has one and `w2` two."""
    sign_on(db, "w1", CARDS[0])
    sign_on(db, "w2", *CARDS[1:3])
    return submit(db, bell, spec(3))


def join(db: Database, run_id: int, worker: str) -> Claim | None:
    joined: Claim | None = in_transaction(db, lambda s: hosts.join(s, run_id, worker, LEASE))
    return joined


def both(db: Database, bell: SilentBell) -> tuple[Claim, Claim]:
    """What the two workers have of such a run."""
    run_id = three(db, bell)
    first = claim(db, run_id, "w1", A)
    second = join(db, run_id, "w2")
    assert first is not None and second is not None
    return first, second


def said(db: Database, run_id: int) -> list[str]:
    with db.reading() as session:
        return [event.message for event in runs.view(session, run_id).events]


def test_a_claim_takes_the_gpus_of_several_workers_and_the_others_join_once(
    registered: Database, bell: SilentBell
) -> None:
    first, second = both(registered, bell)
    run_id = first.run_id
    assert (first.gpus, first.all_gpus, second.gpus) == ((A,), [A, B, C], (B, C))
    assert first.place == Place(counts=[1, 2], host=0, address="10.0.0.1")
    assert second.place == Place(counts=[1, 2], host=1, address="10.0.0.1")
    assert (second.epoch, second.spec, second.claimed_at) == (1, first.spec, first.claimed_at)
    assert holders(registered) == {A: (run_id, 1, "w1"), B: (run_id, 1, "w2"), C: (run_id, 1, "w2")}
    assert join(registered, run_id, "w2") is None, "a ring may be delivered twice"
    assert join(registered, run_id, "w1") is None
    assert said(registered, run_id)[-1] == f"trains on 2 hosts: w1 ({A}), w2 ({B}, {C})"
    with registered.reading() as session:
        assert {row.name: row.run_id for row in session.query(WorkerRow)} == {"w1": run_id, "w2": run_id}


def test_it_waits_for_one_worker_that_has_as_many_and_for_all_gpus_to_be_free(
    registered: Database, bell: SilentBell
) -> None:
    run_id = three(registered, bell)
    pair = submit(registered, bell, spec(2))
    assert claim(registered, pair, "w1", A) is None, "w2 can train it alone"
    assert said(registered, pair)[-1] == "Waiting for a worker with 2 GPUs: w1 has 1."
    one = claim(registered, submit(registered, bell), "w2", B)
    assert one is not None and claim(registered, run_id, "w1", A) is None
    assert said(registered, run_id)[-1] == "Waiting for 3 GPUs of one model: w1, w2 have fewer that are free."
    assert [holders(registered)[uuid] for uuid in (A, C)] == [FREE, FREE], "all or none"
    many = submit(registered, bell, spec(4))
    assert claim(registered, many, "w1", A) is None
    assert said(registered, many)[-1] == "Waiting for workers with 4 GPUs of one model: w1, w2 have 3."
    in_transaction(registered, lambda s: attempts.hand_back(s, bell, one, "bye"))
    assert claim(registered, run_id, "w1", A) is not None


def _drain(db: Database) -> None:
    in_transaction(db, lambda s: worker_queries.drain(s, "w2"))


def _silence(db: Database) -> None:
    past = now() - timedelta(seconds=LEASE + 5)
    in_transaction(db, lambda s: s.execute(update(WorkerRow).where(WorkerRow.name == "w2").values(heartbeat_at=past)))


@pytest.mark.parametrize(
    "spoil",
    [
        _drain,
        _silence,
        lambda db: sign_on(db, "w2", *CARDS[1:3], address=None),
        lambda db: sign_on(db, "w2", *CARDS[1:3], address="127.0.0.1"),
        lambda db: sign_on(db, "w2", *(card.model_copy(update={"name": "NVIDIA T4"}) for card in CARDS[1:3])),
    ],
    ids=["draining", "silent", "no address", "loopback", "another model"],
)
def test_it_takes_no_gpus_of_a_worker_that_cannot_take_part(
    registered: Database, bell: SilentBell, spoil: Callable[[Database], None]
) -> None:
    run_id = three(registered, bell)
    spoil(registered)
    assert claim(registered, run_id, "w1", A) is None
    assert set(holders(registered).values()) == {FREE}


def test_the_end_of_an_attempt_frees_what_nobody_has_joined(registered: Database, bell: SilentBell) -> None:
    run_id = three(registered, bell)
    first = claim(registered, run_id, "w1", A)
    assert first is not None
    failure = Failure(code=FailureCode.NOT_JOINED, message="w2 did not join within 1 s.")
    in_transaction(registered, lambda s: attempts.retry(s, bell, first, failure, 3))
    assert set(holders(registered).values()) == {FREE}
    assert said(registered, run_id)[-1] == "queued again: w2 did not join within 1 s."
    assert (row(registered, run_id).status, row(registered, run_id).attempts) == ("queued", 1)
    assert join(registered, run_id, "w2") is None, "too late"


def test_a_worker_that_has_joined_frees_its_gpus_itself_once_its_processes_are_gone(
    registered: Database, bell: SilentBell
) -> None:
    first, second = both(registered, bell)
    in_transaction(registered, lambda s: attempts.finish(s, bell, first, result(), {}))
    assert row(registered, first.run_id).result is not None
    assert row(registered, first.run_id).result.environment.gpus == [A, B, C]
    assert [holders(registered)[uuid][2] for uuid in (A, B, C)] == [None, "w2", "w2"]
    with pytest.raises(Fenced):
        in_transaction(registered, lambda s: hosts.renew(s, second, LEASE, ready=True))
    in_transaction(registered, lambda s: hosts.leave(s, bell, second, "stopped"))
    assert set(holders(registered).values()) == {FREE}
    with registered.reading() as session:
        assert {worker.run_id for worker in session.query(WorkerRow)} == {None}


def test_a_lost_lease_of_the_first_host_fences_the_others_of_its_epoch_only(
    registered: Database, bell: SilentBell, settings: Settings
) -> None:
    first, second = both(registered, bell)
    let_lease_expire(registered, first.run_id)
    in_transaction(registered, lambda s: sweep.sweep(s, bell, settings))
    assert row(registered, first.run_id).status == "queued"
    with pytest.raises(Fenced):
        in_transaction(registered, lambda s: hosts.renew(s, second, LEASE, ready=True))
    assert claim(registered, first.run_id, "w1", A) is None, "w2's processes may still run"
    in_transaction(registered, lambda s: hosts.leave(s, bell, second, "stopped"))
    again = claim(registered, first.run_id, "w1", A)
    assert again is not None and again.epoch == 2
    in_transaction(registered, lambda s: hosts.leave(s, bell, second, "stopped"))
    assert holders(registered)[B] == (first.run_id, 2, "w2"), "what is of an earlier epoch frees nothing of this one"
    third = join(registered, first.run_id, "w2")
    assert third is not None and third.epoch == 2


def test_the_sweep_ends_the_part_of_a_lost_worker_and_the_first_host_hears_of_it(
    registered: Database, bell: SilentBell, settings: Settings
) -> None:
    first, second = both(registered, bell)
    in_transaction(registered, lambda s: hosts.renew(s, second, LEASE, ready=True))
    orders = in_transaction(registered, lambda s: attempts.report(s, first, 1, [], LEASE))
    [other] = orders.others
    assert (other.joined, other.ready, other.lost, other.going_on) == (True, True, False, True)
    late = in_transaction(registered, clock.now) - timedelta(seconds=1)
    query = update(RunHostRow).where(RunHostRow.worker == "w2").values(lease_expires_at=late)
    in_transaction(registered, lambda s: s.execute(query))
    [other] = in_transaction(registered, lambda s: attempts.report(s, first, 2, [], LEASE)).others
    assert other.lost and other.ended is None
    in_transaction(registered, lambda s: sweep.sweep(s, bell, settings))
    [other] = in_transaction(registered, lambda s: attempts.report(s, first, 3, [], LEASE)).others
    assert other.ended == "lost"
    assert [holders(registered)[uuid] for uuid in (B, C)] == [FREE, FREE]
    with pytest.raises(Fenced):
        in_transaction(registered, lambda s: hosts.renew(s, second, LEASE, ready=True))


def test_a_jump_of_the_clock_renews_the_lease_of_a_host_and_a_reboot_ends_it(
    registered: Database, bell: SilentBell, settings: Settings
) -> None:
    first, _second = both(registered, bell)

    def lease() -> datetime | None:
        with registered.reading() as session:
            return session.query(RunHostRow).filter(RunHostRow.worker == "w2").one().lease_expires_at

    later = in_transaction(registered, clock.now) + timedelta(days=1)
    in_transaction(registered, lambda s: clock.renew_everything(s, later, timedelta(seconds=LEASE)))
    assert lease() == later + timedelta(seconds=LEASE)
    in_transaction(registered, lambda s: clock._expire_everything(s, clock.now(s)))
    assert lease() == clock.LONG_AGO
    in_transaction(registered, lambda s: sweep.sweep(s, bell, settings))
    assert row(registered, first.run_id).status == "queued"
    assert set(holders(registered).values()) == {FREE}


def test_a_worker_that_is_told_to_stop_makes_the_first_host_hand_the_run_back(
    registered: Database, bell: SilentBell
) -> None:
    first, second = both(registered, bell)
    _drain(registered)
    assert in_transaction(registered, lambda s: hosts.renew(s, second, LEASE, ready=True)).drain
    assert in_transaction(registered, lambda s: attempts.report(s, first, 1, [], LEASE)).drain


def test_of_two_such_runs_one_gets_every_gpu_and_the_other_none(registered: Database, bell: SilentBell) -> None:
    sign_on(registered, "w1", *CARDS[:2])
    sign_on(registered, "w2", *CARDS[2:], address="10.0.0.2")
    first, second = (submit(registered, bell, spec(4)) for _ in range(2))
    begin = Barrier(2)

    def race(run_id: int, worker: str, *uuids: str) -> Claim | None:
        begin.wait()
        return claim(registered, run_id, worker, *uuids)

    with ThreadPoolExecutor(2) as pool:
        racing = [pool.submit(race, first, "w1", A, B), pool.submit(race, second, "w2", C, D)]
        claims = [found for each in racing if (found := each.result()) is not None]
    if not claims:  # each has seen the other's locks, and the sweep rings again
        assert set(holders(registered).values()) == {FREE}
        claims = [found for found in [claim(registered, first, "w1", A, B)] if found is not None]
    [winner] = claims
    assert {run_id for run_id, _epoch, _worker in holders(registered).values()} == {winner.run_id}
    assert claim(registered, second if winner.run_id == first else first, "w2", C, D) is None


def test_it_is_the_turn_of_a_run_for_which_enough_gpus_of_several_workers_are_free(
    registered: Database, bell: SilentBell
) -> None:
    run_id = three(registered, bell)

    def turn() -> int | None:
        found: int | None = in_transaction(registered, lambda s: scheduling.Turns(s, run_id, "w1", [A], LEASE).next())
        return found

    one = submit(registered, bell)
    assert turn() == run_id
    held = claim(registered, submit(registered, bell), "w2", B)
    assert held is not None and turn() == one


def state(**changes: object) -> HostState:
    facts = {"worker": "w2", "joined": True, "ready": True, "expired": False, "draining": False, "ended": "failed"}
    return HostState.model_validate(facts | {"failure": None} | changes)


def test_the_failure_that_others_only_follow_is_that_of_the_run() -> None:
    closed = Failure(code=FailureCode.INTERNAL, message="RuntimeError: [gloo] Connection closed by peer [10.0.0.2]:1")
    memory = Failure(code=FailureCode.OUT_OF_MEMORY, message="The device ran out of memory.")
    bug = Failure(code=FailureCode.INTERNAL, message="KeyError: 'x'")
    assert of_connection(closed) and not of_connection(bug) and not of_connection(memory)
    assert blamed(closed, [state(failure=memory)]) == memory.model_copy(update={"message": f"w2: {memory.message}"})
    assert blamed(memory, [state(failure=closed)]) is memory
    assert blamed(closed, [state(failure=bug)]) == bug.model_copy(update={"message": f"w2: {bug.message}"})
    assert blamed(closed, [state(ended="stopped")]) is closed
    assert blamed(None, [state(ended=None)]) is None
