"""Checkpoints of an interrupted run: stored, checked, gone on from, and removed with the run. With a fake trainer."""

import sys
import threading
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from app.domain.methods import FullSpec
from app.domain.runs import RunSpec
from app.services import attempts, runs
from app.services import workers as worker_service
from app.services.attempts import Claim
from app.settings import Settings
from app.store.files import Files
from app.store.queries import events, workers
from app.store.queries import runs as run_queries
from app.store.session import Database
from app.store.tables import RunRow, now
from tests.fakes import SilentBell
from worker import tasks
from worker.context import Context
from worker.spare import Trainers
from worker.supervisor import supervise

FAKE = Path(__file__).with_name("fake_trainer.py")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def here(
    registered: Database, settings: Settings, files: Files, bell: SilentBell, monkeypatch: pytest.MonkeyPatch
) -> Context:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    context = Context(settings.model_copy(update={"worker_name": "w1"}), registered, files, bell)
    found = replace(context, trainers=Trainers((sys.executable, str(FAKE), "leaves-a-checkpoint")))
    monkeypatch.setattr(tasks, "context", lambda: found)
    return found


@pytest.fixture
def run_id(here: Context) -> int:
    with here.database.transaction() as session:
        run = runs.submit(session, here.bell, RunSpec(base_model="tiny", dataset="small", method=FullSpec()))
        worker_service.sign_on(session, "w1", device="cpu", device_name="CPU", memory_bytes=None, cores=1)
    return run.id


def claimed(here: Context, run_id: int) -> Claim:
    with here.database.transaction() as session:
        found = attempts.claim(session, run_id, "w1", here.settings.lease_seconds)
    assert found is not None
    return found


def row(here: Context, run_id: int) -> RunRow:
    with here.database.reading() as session:
        return run_queries.get(session, run_id)


def drained(here: Context, run_id: int) -> RunRow:
    """An attempt whose worker is told to stop when two checkpoints are stored."""

    def drain_then() -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and [c.step for c in row(here, run_id).checkpoints] != [6, 9]:
            time.sleep(0.05)
        with here.database.transaction() as session:
            workers.drain(session, "w1")

    draining = threading.Thread(target=drain_then)
    draining.start()
    supervise(here, claimed(here, run_id))
    draining.join()
    with here.database.transaction() as session:
        worker_service.sign_on(session, "w1", device="cpu", device_name="CPU", memory_bytes=None, cores=1)
    return row(here, run_id)


def messages(here: Context, run_id: int) -> list[str]:
    with here.database.reading() as session:
        return [event.message for event in events.after(session, run_id)]


def stored(here: Context) -> list[str]:
    return [name for name in here.files.fs.find(here.files.root) if "checkpoints" in name]


def test_a_drained_run_goes_on_from_its_last_checkpoint_and_leaves_none_at_its_end(here: Context, run_id: int) -> None:
    run = drained(here, run_id)
    assert (run.status, run.attempts) == ("queued", 0)
    assert [c.step for c in run.checkpoints] == [9, 10]
    assert {Path(name).parent.name for name in stored(here)} == {"1-9", "1-10"}  # older ones are gone

    supervise(here, claimed(here, run_id))

    assert row(here, run_id).status == "succeeded"
    assert "going on from step 10" in messages(here, run_id)
    assert stored(here) == []


def test_a_sweep_removes_what_a_cancelled_run_has_stored_though_no_worker_ends_it(here: Context, run_id: int) -> None:
    assert drained(here, run_id).checkpoints
    tasks.sweep()
    assert stored(here)  # the run is queued, and will go on from there
    with here.database.transaction() as session:
        assert runs.cancel(session, run_id).status == "cancelled"

    tasks.sweep()

    assert stored(here) == []
    assert row(here, run_id).checkpoints == ()


@pytest.mark.parametrize(("cancelled", "ends"), [(False, "failed"), (True, "cancelled")])
def test_a_sweep_removes_what_a_run_has_stored_whose_worker_is_lost(
    here: Context, run_id: int, cancelled: bool, ends: str
) -> None:
    drained(here, run_id)
    claimed(here, run_id)
    with here.database.transaction() as session:
        if cancelled:
            runs.cancel(session, run_id)
        lost = run_queries.get(session, run_id)
        lost.lease_expires_at, lost.attempts = now() - timedelta(seconds=1), here.settings.max_attempts

    tasks.sweep()

    assert (row(here, run_id).status, stored(here)) == (ends, [])
    assert row(here, run_id).checkpoints == ()


def test_a_store_that_does_not_answer_is_asked_again_by_the_next_sweep(
    here: Context, run_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    drained(here, run_id)
    with here.database.transaction() as session:
        runs.cancel(session, run_id)

    def away(_: str) -> None:
        raise OSError("the store does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(here.files, "remove", away)
        tasks.sweep()
    assert stored(here) and row(here, run_id).checkpoints

    tasks.sweep()

    assert (stored(here), row(here, run_id).checkpoints) == ([], ())


def test_a_damaged_checkpoint_makes_way_for_the_one_before_and_that_is_recorded(here: Context, run_id: int) -> None:
    newest = drained(here, run_id).checkpoints[-1]
    Path(here.files.root, newest.prefix, "weights.safetensors").write_bytes(b"weights of")

    supervise(here, claimed(here, run_id))

    assert row(here, run_id).status == "succeeded"
    said = messages(here, run_id)
    assert "The checkpoint of step 10 cannot be used: weights.safetensors is not as it was written." in said
    assert "going on from step 9" in said


def test_without_a_whole_checkpoint_the_run_begins_again(here: Context, run_id: int) -> None:
    for checkpoint in drained(here, run_id).checkpoints:
        here.files.remove(checkpoint.prefix)
    found = claimed(here, run_id)
    with here.database.transaction() as session:
        runs.cancel(session, run_id)

    supervise(here, found)

    said = messages(here, run_id)
    assert row(here, run_id).status == "cancelled"
    assert [m.partition(":")[0] for m in said if "cannot be used" in m] == [
        "The checkpoint of step 10 cannot be used",
        "The checkpoint of step 9 cannot be used",
    ]
    assert not any("going on" in m for m in said)
