"""Checkpoints of an interrupted run: stored, checked, gone on from, and removed with the run. With a fake trainer."""

import errno
import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from app.domain.runs.job import CheckpointReport
from app.services.runs import attempts, runs
from app.store.files.files import sha256
from app.store.runs import queries as run_queries
from app.store.tables import now
from tests.support.servers.supervised import attempt, claimed, drained, messages, row, stored, submitted
from worker import tasks
from worker.nodes.context import Context
from worker.training import attempt as supervised_attempt
from worker.training.checkpoints import Checkpoints


@pytest.fixture(autouse=True)
def process(here: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tasks are those of `here`."""
    monkeypatch.setattr(tasks, "process_context", lambda: here)


@pytest.fixture
def run_id(here: Context) -> int:
    return submitted(here)


@pytest.mark.slow
def test_what_a_cancelled_run_has_stored_is_removed_though_no_worker_ends_it(here: Context, run_id: int) -> None:
    assert drained(here, run_id).checkpoints
    tasks.remove_files()
    assert stored(here)  # the run is queued, and will go on from there
    with here.database.transaction() as session:
        assert runs.cancel(session, here.bell, run_id).status == "cancelled"

    tasks.remove_files()

    assert stored(here) == []
    assert row(here, run_id).checkpoints == ()


@pytest.mark.slow
@pytest.mark.parametrize(("cancelled", "ends"), [(False, "failed"), (True, "cancelled")])
def test_what_a_run_has_stored_is_removed_once_its_worker_is_lost(
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
    tasks.remove_files()

    assert (row(here, run_id).status, stored(here)) == (ends, [])
    assert row(here, run_id).checkpoints == ()


@pytest.mark.slow
def test_files_are_removed_later_if_the_store_does_not_answer(
    here: Context, run_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    drained(here, run_id)
    with here.database.transaction() as session:
        runs.cancel(session, here.bell, run_id)

    def away(_: str) -> None:
        raise OSError("the store does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(here.files, "remove", away)
        tasks.remove_files()
    assert stored(here) and row(here, run_id).checkpoints

    tasks.remove_files()

    assert (stored(here), row(here, run_id).checkpoints) == ([], ())


class StoreError(Exception):
    """As botocore's: no OSError."""


def failing(names: str) -> Callable[..., None]:
    """A way to or from the store that fails for names with `names` in them."""

    def fail(*arguments: object) -> None:
        if any(names in str(argument) for argument in arguments):
            raise StoreError("Could not connect to the endpoint URL")

    return fail


@pytest.mark.slow
def test_a_checkpoint_that_the_store_does_not_take_costs_no_run(
    here: Context, run_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, put = failing("checkpoints/"), here.files.put

    def sometimes(source: Path, name: str) -> None:
        broken(name)
        put(source, name)

    monkeypatch.setattr(here.files, "put", sometimes)
    attempt(here, claimed(here, run_id), "leaves-checkpoints-and-succeeds")
    run = row(here, run_id)
    assert (run.status, run.checkpoints) == ("succeeded", ())


@pytest.mark.slow
def test_a_checkpoint_is_not_damaged_because_the_store_is_away(
    here: Context, run_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = drained(here, run_id)
    broken, get = failing("checkpoints/"), here.files.fs.get_file

    def sometimes(source: str, target: str) -> None:
        broken(source)
        get(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(supervised_attempt, "FETCH_AGAIN_SECONDS", (0.01, 0.01))
        patch.setattr(here.files.fs, "get_file", sometimes)
        attempt(here, claimed(here, run_id), "leaves-a-checkpoint")
    away = row(here, run_id)
    assert (away.status, away.attempts, away.checkpoints) == ("queued", before.attempts, before.checkpoints)
    assert "The files store does not answer (StoreError" in messages(here, run_id)[-1]
    attempt(here, claimed(here, run_id), "succeeds")
    assert row(here, run_id).status == "succeeded"
    assert not [message for message in messages(here, run_id) if "unusable" in message]


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


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_disk_without_room_for_a_checkpoint_fails_the_run_instead_of_training_from_step_0(
    here: Context, run_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    drained(here, run_id)
    get = here.files.get

    def full(name: str, target: Path) -> None:
        if "resume-" in str(target):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        get(name, target)

    monkeypatch.setattr(here.files, "get", full)
    run = attempt(here, claimed(here, run_id), "succeeds")
    assert (run.status, run.failure_code) == ("failed", "disk_full")
    assert "The worker's disk with run-" in run.failure_message
    assert not [message for message in messages(here, run_id) if "unusable" in message]
