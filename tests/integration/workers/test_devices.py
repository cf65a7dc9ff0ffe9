"""GPUs are known by UUID across all workers: at most one attempt has a GPU, and its end, however it comes, frees it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from app.broker.queue import TRAIN
from app.domain.failures import FAILURES, Failure, FailureCode
from app.domain.resources.devices import Gpu, VisibleGpu
from app.domain.runs.training import TrainingArguments
from app.services.runs import attempts, runs
from app.services.runs.attempts import Claim
from app.services.workers import sweep, workers
from app.services.workers.workers import WorkerView
from app.settings import Settings
from app.store.database.session import Database
from app.store.resources import devices
from app.store.runs import queries as run_queries
from app.store.tables import DeviceRow
from app.store.workers import clock, queue
from app.store.workers import queries as worker_queries
from tests.support.fakes.fakes import SilentBell
from tests.support.rows.attempted import LEASE, SPEC, in_transaction, let_lease_expire, row, submit
from tests.support.rows.results import result

CARDS = tuple(Gpu(uuid=f"GPU-{name}", name="NVIDIA L4", memory_bytes=24 * 2**30) for name in "abcd")
A, B, C, D = (card.uuid for card in CARDS)
PAIR = SPEC.model_copy(update={"training": TrainingArguments(devices=2, gradient_accumulation_steps=2)})
"""A run on two devices."""


def sign_on(db: Database, name: str, *cards: Gpu) -> None:
    """Register a worker with these GPUs."""
    facts = {"device": "cuda", "device_name": "NVIDIA L4", "memory_bytes": 24 * 2**30, "cores": 8}
    in_transaction(db, lambda s: workers.sign_on(s, name, gpus=cards, **facts))


def claim(db: Database, run_id: int, worker: str, *uuids: str, count: int = 1) -> Claim | None:
    """Claim a run for a worker with one of its GPUs."""
    found: Claim | None = in_transaction(db, lambda s: attempts.claim(s, run_id, worker, LEASE, uuids, count))
    return found


def claimed(db: Database, bell: SilentBell, worker: str, *uuids: str) -> Claim:
    """A run that it has claimed."""
    found = claim(db, submit(db, bell), worker, *uuids)
    assert found is not None
    return found


def holders(db: Database) -> dict[str, tuple[int | None, int | None, str | None]]:
    """Run, epoch and worker of every GPU."""
    with db.reading() as session:
        rows = session.query(DeviceRow).order_by(DeviceRow.uuid)
        return {row.uuid: (row.run_id, row.epoch, row.worker) for row in rows}


def view(db: Database, settings: Settings, name: str = "w1") -> WorkerView:
    """A worker as it is listed."""
    patient = settings.model_copy(update={"lease_seconds": LEASE})
    with db.reading() as session:
        return next(worker for worker in workers.live(session, patient) if worker.name == name)


def test_a_claim_takes_the_preferred_gpu_else_another_and_else_the_run_waits(
    registered: Database, bell: SilentBell
) -> None:
    sign_on(registered, "w1", *CARDS[:2])
    first, second = (claimed(registered, bell, "w1", B, A) for _ in range(2))
    assert (first.gpus, second.gpus, first.device) == ((B,), (A,), "cuda")
    third = submit(registered, bell)
    assert claim(registered, third, "w1", B, A) is None and claim(registered, third, "w1", B, A) is None
    waiting = row(registered, third)
    assert (waiting.status, waiting.epoch, waiting.attempts, waiting.rung_at) == ("queued", 0, 0, None)
    with registered.reading() as session:
        said = [event.message for event in runs.view(session, third).events]
        assert runs.view(session, first.run_id).events[-1].message == f"claimed by w1, attempt 1, {B}"
    assert said == ["queued", "Waiting for a GPU: w1 has none that is free."]
    assert holders(registered) == {A: (second.run_id, 1, "w1"), B: (first.run_id, 1, "w1")}


def test_a_worker_with_gpus_never_trains_without_taking_one(registered: Database, bell: SilentBell) -> None:
    sign_on(registered, "w1", CARDS[0])
    run_id = submit(registered, bell)
    assert in_transaction(registered, lambda s: attempts.claim(s, run_id, "w1", LEASE)) is None
    with registered.reading() as session:
        last = runs.view(session, run_id).events[-1].message
    assert last.startswith("Not executed by w1: it has GPUs") and "-P prefork" in last
    assert row(registered, run_id).status == "queued"
    sign_on(registered, "w1")  # its row is of another start, or it has no GPU
    assert in_transaction(registered, lambda s: attempts.claim(s, run_id, "w1", LEASE)) is not None


def test_a_claim_takes_several_gpus_or_none(registered: Database, bell: SilentBell) -> None:
    sign_on(registered, "w1", *CARDS[:3])
    one = claimed(registered, bell, "w1", B)
    pair = submit(registered, bell)
    assert claim(registered, pair, "w1", A, B, count=2) is None
    assert holders(registered)[A] == (None, None, None)
    both = claim(registered, pair, "w1", A, B, C, count=2)
    assert both is not None and both.gpus == (A, C)
    in_transaction(registered, lambda s: attempts.hand_back(s, bell, both, "bye"))
    assert [run for run, _epoch, _worker in holders(registered).values()] == [None, one.run_id, None]


def test_a_run_on_several_devices_waits_for_as_many_gpus(registered: Database, bell: SilentBell) -> None:
    sign_on(registered, "w1", *CARDS[:1])
    sign_on(registered, "w2", *CARDS[1:3])
    one = claimed(registered, bell, "w2", B)
    pair = submit(registered, bell, PAIR)
    assert claim(registered, pair, "w1", A) is None and claim(registered, pair, "w2", B, C) is None
    with registered.reading() as session:
        said = [event.message for event in runs.view(session, pair).events]
    assert said[1:] == [
        "Waiting for a worker with 2 GPUs: w1 has 1.",
        "Waiting for 2 GPUs: w2 has fewer that are free.",
    ]
    in_transaction(registered, lambda s: attempts.hand_back(s, bell, one, "bye"))
    both = claim(registered, pair, "w2", B, C)
    assert both is not None and both.gpus == (B, C)


def test_a_gpu_that_two_workers_see_runs_one_attempt(
    registered: Database, bell: SilentBell, settings: Settings
) -> None:
    sign_on(registered, "w1", CARDS[0])
    sign_on(registered, "w2", *CARDS[:2])
    mine = claimed(registered, bell, "w1", A)
    sign_on(registered, "w2", *CARDS[:2])  # a restart of the other changes nothing
    assert claimed(registered, bell, "w2", A, B).gpus == (B,)
    assert claim(registered, submit(registered, bell), "w2", A, B) is None
    [shared, own] = view(registered, settings, "w2").devices
    assert (shared.run_id, shared.worker, own.worker) == (mine.run_id, "w1", "w2")


def end_by(name: str, bell: SilentBell, settings: Settings) -> Callable[[Database, Claim], None]:
    """What ends an attempt."""
    killed = Failure(code=FailureCode.KILLED, message=FAILURES[FailureCode.KILLED])

    def expire(db: Database, held: Claim) -> None:
        let_lease_expire(db, held.run_id)
        in_transaction(db, lambda s: sweep.sweep(s, bell, settings))

    def cancel(db: Database, held: Claim) -> None:
        in_transaction(db, lambda s: runs.cancel(s, bell, held.run_id))
        in_transaction(db, lambda s: attempts.stop(s, bell, held))

    def lose_cancelled(db: Database, held: Claim) -> None:
        in_transaction(db, lambda s: runs.cancel(s, bell, held.run_id))
        expire(db, held)

    acts: dict[str, Callable[[Database, Claim], None]] = {
        "success": lambda db, held: in_transaction(db, lambda s: attempts.finish(s, bell, held, result(), {})),
        "failure": lambda db, held: in_transaction(db, lambda s: attempts.fail(s, bell, held, killed)),
        "retry": lambda db, held: in_transaction(db, lambda s: attempts.retry(s, bell, held, killed, 3)),
        "hand back": lambda db, held: in_transaction(db, lambda s: attempts.hand_back(s, bell, held, "bye")),
        "cancel": cancel,
        "lost": expire,
        "lost and cancelled": lose_cancelled,
    }
    return acts[name]


@pytest.mark.parametrize("how", ["success", "failure", "retry", "hand back", "cancel", "lost", "lost and cancelled"])
def test_the_end_of_an_attempt_frees_its_gpu_and_rings_for_a_run_that_waits(
    registered: Database, bell: SilentBell, settings: Settings, how: str
) -> None:
    sign_on(registered, "w1", *CARDS[:2])
    held, other = claimed(registered, bell, "w1", A), claimed(registered, bell, "w1", B)
    waiting = submit(registered, bell)
    assert claim(registered, waiting, "w1", A, B) is None
    bell.rung.clear()
    end_by(how, bell, settings)(registered, held)
    assert holders(registered) == {A: (None, None, None), B: (other.run_id, 1, "w1")}
    assert bell.rung.count((TRAIN, waiting)) == 1
    assert view(registered, settings).run_id == other.run_id
    assert claim(registered, waiting, "w1", A, B) is not None


def test_a_lost_attempt_frees_nothing_of_the_next(registered: Database, bell: SilentBell, settings: Settings) -> None:
    sign_on(registered, "w1", *CARDS[:1])
    lost = claimed(registered, bell, "w1", A)
    end_by("lost", bell, settings)(registered, lost)
    again = claim(registered, lost.run_id, "w1", A)
    assert again is not None and again.epoch == 2
    with pytest.raises(attempts.Fenced):
        in_transaction(registered, lambda s: attempts.hand_back(s, bell, lost, "late"))
    assert in_transaction(registered, lambda s: devices.release(s, lost.run_id, lost.epoch)) == 0
    assert holders(registered)[A] == (lost.run_id, 2, "w1")


def test_a_worker_that_starts_again_leaves_the_gpu_to_the_lease(
    registered: Database, bell: SilentBell, settings: Settings
) -> None:
    sign_on(registered, "w1", CARDS[0])
    lost = claimed(registered, bell, "w1", A)
    sign_on(registered, "w1", CARDS[0])
    assert claim(registered, submit(registered, bell), "w1", A) is None
    assert not view(registered, settings).takes_runs
    end_by("lost", bell, settings)(registered, lost)
    assert view(registered, settings).takes_runs


def test_of_two_workers_that_race_for_three_gpus_each_gpu_runs_one_attempt(
    registered: Database, bell: SilentBell
) -> None:
    for name in ("w1", "w2"):
        sign_on(registered, name, *CARDS[:3])
    waiting = [submit(registered, bell) for _ in range(8)]
    start = Barrier(8)

    def race(place: int) -> Claim | None:
        start.wait(30)
        order = CARDS[:3] if place % 2 else tuple(reversed(CARDS[:3]))
        return claim(registered, waiting[place], f"w{place % 2 + 1}", *(card.uuid for card in order))

    with ThreadPoolExecutor(8) as pool:
        found = [one for one in pool.map(race, range(8)) if one is not None]
    # A claim passes over a GPU that another is about to take or to leave, so one may be free: the next claim takes it.
    found += [one for run_id in waiting if (one := claim(registered, run_id, "w1", A, B, C)) is not None]
    assert sorted(uuid for one in found for uuid in one.gpus) == [A, B, C]
    held = {uuid: (one.run_id, one.epoch, one.worker) for one in found for uuid in one.gpus}
    assert {uuid: holder for uuid, holder in holders(registered).items() if holder[0]} == held
    with registered.reading() as session:
        assert run_queries.count_by_status(session)["running"] == len(found)


def test_races_with_ends_and_sweeps_never_share_a_gpu(
    registered: Database, bell: SilentBell, settings: Settings
) -> None:
    """Two workers see both GPUs; each of four processes claims, looks that nothing else has its GPU, and ends."""
    for name in ("w1", "w2"):
        sign_on(registered, name, *CARDS[:2])
    waiting = [submit(registered, bell) for _ in range(24)]
    at_work: dict[str, int] = {}
    shared: list[str] = []

    def work(place: int) -> int:
        done = 0
        for run_id in waiting[place::4]:
            held = claim(registered, run_id, f"w{place % 2 + 1}", *((A, B) if place < 2 else (B, A)))
            if held is None:
                in_transaction(registered, lambda s: sweep.sweep(s, bell, settings))
                continue
            [uuid] = held.gpus
            if at_work.setdefault(uuid, held.run_id) != held.run_id:
                shared.append(uuid)
            in_transaction(registered, lambda s, held=held: attempts.report(s, held, 1, [], LEASE))
            if at_work.pop(uuid, None) != held.run_id:
                shared.append(uuid)
            in_transaction(registered, lambda s, held=held: attempts.hand_back(s, bell, held, "bye"))
            done += 1
        return done

    with ThreadPoolExecutor(4) as pool:
        done = sum(pool.map(work, range(4)))
    assert (shared, done > 0) == ([], True)
    assert set(holders(registered).values()) == {(None, None, None)}


def test_a_gpu_that_disappears_is_shown_and_no_longer_taken(
    registered: Database, bell: SilentBell, settings: Settings
) -> None:
    sign_on(registered, "w1", *CARDS[:2])
    seen = [VisibleGpu(uuid=A, problem="The driver no longer lists it."), VisibleGpu(uuid=B, free_bytes=2**30)]
    in_transaction(registered, lambda s: worker_queries.beat(s, "w1", clock.now(s), seen))
    assert claimed(registered, bell, "w1", A, B).gpus == (B,)
    assert claim(registered, submit(registered, bell), "w1", A, B) is None
    [gone, busy] = view(registered, settings).devices
    assert (gone.problem, gone.run_id, busy.free_bytes) == ("The driver no longer lists it.", None, 2**30)
    assert not view(registered, settings).takes_runs
    in_transaction(registered, lambda s: worker_queries.beat(s, "w1", clock.now(s)))  # it has not looked
    assert view(registered, settings).devices[0].problem
    sign_on(registered, "w1", CARDS[1])
    assert [gpu.uuid for gpu in view(registered, settings).devices] == [B]


def test_a_gpu_that_an_attempt_lost_is_lost_to_every_process_of_its_worker_until_it_signs_on_again(
    registered: Database, bell: SilentBell, settings: Settings
) -> None:
    sign_on(registered, "w1", *CARDS[:2])
    held = claimed(registered, bell, "w1", A)
    failure = Failure(code=FailureCode.DEVICE_LOST, message=FAILURES[FailureCode.DEVICE_LOST])
    gone = [VisibleGpu(uuid=A, problem="The driver no longer lists it.")]
    in_transaction(registered, lambda s: attempts.retry(s, bell, held, failure, 3, gone))
    looked_before = [VisibleGpu(uuid=uuid, free_bytes=2**30) for uuid in (A, B)]
    in_transaction(registered, lambda s: worker_queries.beat(s, "w1", clock.now(s), looked_before))
    assert [(gpu.problem, gpu.free_bytes) for gpu in view(registered, settings).devices] == [
        ("The driver no longer lists it.", None),
        ("", 2**30),
    ]
    again = claim(registered, held.run_id, "w1", A, B)
    assert again is not None and again.gpus == (B,)
    sign_on(registered, "w1", *CARDS[:2])
    assert claimed(registered, bell, "w1", A).gpus == (A,)


def test_the_sweep_rings_while_a_gpu_is_free(registered: Database, bell: SilentBell, settings: Settings) -> None:
    patient = settings.model_copy(update={"lease_seconds": LEASE})
    sign_on(registered, "w1", *CARDS[:2])
    claimed(registered, bell, "w1", A)
    waiting = submit(registered, bell)
    in_transaction(registered, lambda s: queue.to_ring(s, waiting))
    assert in_transaction(registered, lambda s: sweep.sweep(s, bell, patient)).rung == 1
    claimed(registered, bell, "w1", B)
    in_transaction(registered, lambda s: queue.to_ring(s, waiting))
    assert in_transaction(registered, lambda s: sweep.sweep(s, bell, patient)).rung == 0


def test_a_result_names_its_gpu_and_measures_a_worker_whose_gpus_are_of_that_kind(
    registered: Database, bell: SilentBell, settings: Settings
) -> None:
    measured = result()
    for name in ("NVIDIA L4", "NVIDIA T4"):
        sign_on(registered, "w1", CARDS[0])
        held = claimed(registered, bell, "w1", A)
        facts = {"device_name": name, "precision": "fp32", "matmul_flops": float(held.run_id)}
        on_it = measured.model_copy(update={"environment": measured.environment.model_copy(update=facts)})
        in_transaction(registered, lambda s, held=held, on_it=on_it: attempts.finish(s, bell, held, on_it, {}))
        ended = row(registered, held.run_id).result
        assert ended is not None and ended.environment.gpus == [A]
    assert view(registered, settings).matmul_flops == held.run_id - 1, "of the L4, which the worker has"


def test_a_gpu_that_no_worker_lists_any_more_is_forgotten(
    registered: Database, bell: SilentBell, settings: Settings
) -> None:
    sign_on(registered, "w1", *CARDS[:3])
    found = claimed(registered, bell, "w1", C)
    sign_on(registered, "w1", CARDS[0])  # B and C were taken out of the machine
    sign_on(registered, "w2", CARDS[3])
    in_transaction(registered, lambda s: sweep.sweep(s, bell, settings))
    assert set(holders(registered)) == {A, C, D}, "an attempt still has C"
    in_transaction(registered, lambda s: devices.release(s, found.run_id, found.epoch))
    in_transaction(registered, workers.forget)
    assert set(holders(registered)) == {A, D}
    sign_on(registered, "w1", *CARDS[:2])
    assert claimed(registered, bell, "w1", B).gpus == (B,)


def test_a_gpu_that_a_worker_registers_while_it_is_forgotten_stays(
    registered: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_transaction(registered, lambda s: devices.register(s, CARDS[:2]))
    reads = iter([{A, B}, {B}])  # between the two, another worker has listed A
    monkeypatch.setattr(devices, "_free_unlisted", lambda _: next(reads))
    in_transaction(registered, devices.delete_unlisted)
    assert set(holders(registered)) == {A}
