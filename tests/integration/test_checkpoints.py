"""Checkpoints of an interrupted run: stored, checked, gone on from, and removed with the run. With a fake trainer."""

import json
import shutil
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from app.domain.methods import FullSpec
from app.domain.runs.job import CheckpointReport
from app.domain.runs.spec import RunSpec
from app.services import attempts, runs
from app.services import workers as worker_service
from app.services.attempts import Claim
from app.settings import Settings
from app.store.files import Files, sha256
from app.store.queries import events, workers
from app.store.queries import runs as run_queries
from app.store.session import Database
from app.store.tables import RunRow, now
from tests.fakes import SilentBell
from worker import tasks
from worker.context import Context
from worker.training.checkpoints import Checkpoints
from worker.training.supervisor import supervise
from worker.training.warm_pool import WarmPool

FAKE = Path(__file__).with_name("fake_trainer.py")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def here(
    registered: Database, settings: Settings, files: Files, bell: SilentBell, monkeypatch: pytest.MonkeyPatch
) -> Context:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    context = Context(settings.model_copy(update={"worker_name": "w1"}), registered, files, bell)
    found = replace(context, trainers=WarmPool((sys.executable, str(FAKE), "leaves-a-checkpoint")))
    monkeypatch.setattr(tasks, "process_context", lambda: found)
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
        assert runs.cancel(session, here.bell, run_id).status == "cancelled"

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
            runs.cancel(session, here.bell, run_id)
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
        runs.cancel(session, here.bell, run_id)

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
    assert "The checkpoint of step 10 is unusable: the checksum of weights.safetensors is wrong." in said
    assert "going on from step 9" in said


def behaving(here: Context, behaviour: str) -> Context:
    return replace(here, trainers=WarmPool((sys.executable, str(FAKE), behaviour)))


def test_without_a_whole_checkpoint_the_run_begins_again(here: Context, run_id: int) -> None:
    for checkpoint in drained(here, run_id).checkpoints:
        here.files.remove(checkpoint.prefix)

    supervise(behaving(here, "succeeds"), claimed(here, run_id))

    said = messages(here, run_id)
    assert row(here, run_id).status == "succeeded"
    assert [m.partition(":")[0] for m in said if "is unusable" in m] == [
        "The checkpoint of step 10 is unusable",
        "The checkpoint of step 9 is unusable",
    ]
    assert not any("going on" in m for m in said)


class StoreError(Exception):
    """As botocore's: no OSError."""


def failing(names: str) -> Callable[..., None]:
    """A way to or from the store that fails for names with `names` in them."""

    def fail(*arguments: object) -> None:
        if any(names in str(argument) for argument in arguments):
            raise StoreError("Could not connect to the endpoint URL")

    return fail


def test_a_checkpoint_that_the_store_does_not_take_costs_no_run(
    here: Context, run_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, put = failing("checkpoints/"), here.files.put

    def sometimes(source: Path, name: str) -> None:
        broken(name)
        put(source, name)

    monkeypatch.setattr(here.files, "put", sometimes)
    supervise(behaving(here, "leaves-checkpoints-and-succeeds"), claimed(here, run_id))
    run = row(here, run_id)
    assert (run.status, run.checkpoints) == ("succeeded", ())


def test_a_store_that_cannot_be_read_makes_the_run_begin_again(
    here: Context, run_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    drained(here, run_id)
    broken, get = failing("checkpoints/"), here.files.get

    def sometimes(name: str, target: Path) -> None:
        broken(name)
        get(name, target)

    monkeypatch.setattr(here.files, "get", sometimes)
    supervise(behaving(here, "succeeds"), claimed(here, run_id))
    assert row(here, run_id).status == "succeeded"
    assert "The checkpoint of step 10 is unusable: Could not connect to the endpoint URL." in messages(here, run_id)


def test_a_run_whose_trainer_was_killed_goes_on_from_what_it_had_just_left(here: Context, run_id: int) -> None:
    supervise(behaving(here, "leaves-a-checkpoint-and-is-killed"), claimed(here, run_id))
    run = row(here, run_id)
    assert (run.status, [c.step for c in run.checkpoints]) == ("queued", [3])

    supervise(here, claimed(here, run_id))

    assert row(here, run_id).status == "succeeded"
    assert "going on from step 3" in messages(here, run_id)


def left(directory: Path, step: int) -> CheckpointReport:
    """What a trainer leaves."""
    folder = directory / str(step)
    folder.mkdir(parents=True)
    (folder / "weights.safetensors").write_bytes(b"weights")
    digest = sha256(folder / "weights.safetensors")
    (folder / "state.json").write_text(json.dumps({"files": {"weights.safetensors": digest}}))
    return CheckpointReport(step=step, folder=str(folder))


def test_a_folder_stays_as_long_as_the_store_needs_though_the_trainer_goes_on(
    here: Context, run_id: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim, open_ = claimed(here, run_id), threading.Event()
    put = here.files.put

    def slow(source: Path, name: str) -> None:
        assert open_.wait(20)
        put(source, name)

    monkeypatch.setattr(here.files, "put", slow)

    def write(change: Callable[[Session], None]) -> None:
        with here.database.transaction() as session:
            change(session)

    output, ours = tmp_path / "output", tmp_path / "ours"
    checkpoints = Checkpoints(here.files, claim, write, ours)
    for step in (1, 2, 3, 4):
        checkpoints.take(left(output, step))
        checkpoints.tend()
    shutil.rmtree(output)  # a trainer removes its older ones
    assert {path.name for path in ours.iterdir()} == {"1", "4"}, "of those that wait, only the newest"
    open_.set()
    checkpoints.settle()
    checkpoints.close()
    assert [c.step for c in row(here, run_id).checkpoints] == [1, 4]
    assert list(ours.iterdir()) == []


def test_after_the_end_nothing_more_appears_in_the_store(
    here: Context, run_id: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, put = threading.Event(), here.files.put

    def slow(source: Path, name: str) -> None:
        begun.set()
        time.sleep(0.3)
        put(source, name)

    monkeypatch.setattr(here.files, "put", slow)
    checkpoints = Checkpoints(here.files, claimed(here, run_id), lambda change: None, tmp_path / "ours")
    checkpoints.take(left(tmp_path / "output", 1))
    checkpoints.tend()
    assert begun.wait(20)
    checkpoints.close()
    here.files.remove(attempts.checkpoint_prefix(run_id))
    time.sleep(0.5)
    assert stored(here) == []
