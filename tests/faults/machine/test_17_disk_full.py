"""Fault 17: the disk is full. The run says so, or does without a checkpoint; the last good checkpoint stays whole."""

import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.domain.failures import FailureCode
from app.domain.runs.checkpoint import StoredCheckpoint
from app.services.runs.attempts import Claim
from app.store.files.files import Files, sha256
from app.store.workers import queries as workers
from tests.faults.installation import Installation
from tests.support.servers.running_stack import until
from tests.support.servers.supervised import attempt, claimed, left_folders, messages, row, stored, submitted
from worker.nodes.context import Context

SQLITE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


class SmallDisk:
    """A disk of 256 KiB in memory, where the files store lies."""

    def __init__(self, place: Path) -> None:
        self._filler = place / "filler"

    def fill(self) -> None:
        """Leave no byte free."""
        with self._filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
            while True:
                file.write(b"x" * 4096)

    def free(self) -> None:
        """Make room again."""
        self._filler.unlink()


@pytest.fixture
def disk(here: Context) -> Iterator[SmallDisk]:
    with small_disk(Path(here.files.root)) as disk:
        yield disk


@contextmanager
def small_disk(place: Path) -> Iterator[SmallDisk]:
    """Have a folder's contents on a small disk, and what is written there lost afterwards."""
    before = shutil.copytree(place, place.with_name("before"))
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    if (done := subprocess.run(mount, capture_output=True, text=True, check=False)).returncode:
        pytest.skip(f"only root with CAP_SYS_ADMIN may mount the small disk that this fills: {done.stderr.strip()}")
    try:
        shutil.copytree(before, place, dirs_exist_ok=True)
        yield SmallDisk(place)
    finally:
        subprocess.run(["umount", str(place)], check=True)
        shutil.rmtree(before)


def full_message(files: Files) -> str:
    """Which disk is full, what is needed of it for an adapter of seven bytes, and what to do."""
    return (
        f"The worker's disk with {Path(files.root).name} is full: 0 KiB are free, and at least 1 KiB are needed. "
        "Free some space there, then submit the run again."
    )


def require_whole(files: Files, checkpoint: StoredCheckpoint) -> None:
    """Every file of a stored checkpoint is as it was written."""
    for name, digest in checkpoint.files.items():
        assert sha256(Path(files.root, checkpoint.prefix, name)) == digest


@pytest.mark.slow
def test_a_full_disk_costs_a_run_its_newest_checkpoint_then_its_result_and_the_next_run_nothing(
    vezna: Installation,
) -> None:
    with small_disk(Path(vezna.files.root)) as disk:
        resuming = vezna.submit("trains")
        vezna.until_checkpoint(resuming)
        disk.fill()
        until(lambda: "checkpoint not stored" in vezna.log("worker"), 30)
        *_, last = vezna.run(resuming).checkpoints
        require_whole(vezna.files, last)
        disk.free()
        vezna.trainer().kill()
        run = vezna.require_succeeded_once(resuming, attempts=2)
        assert run.result and run.result.resumed_from and run.result.resumed_from >= last.step

        failing = vezna.submit("trains")
        vezna.until_checkpoint(failing)
        disk.fill()
        vezna.finish(failing)
        message = vezna.require_failed_once(failing, FailureCode.DISK_FULL)
        assert message == full_message(vezna.files)
        disk.free()
        vezna.require_succeeded_once(vezna.submit("succeeds"))
        until(lambda: vezna.left_files() == [], 30)


@SQLITE
def test_results_that_do_not_fit_the_disk_fail_as_disk_full(here: Context, claim: Claim, disk: SmallDisk) -> None:
    disk.fill()
    run = attempt(here, claim, "succeeds")
    assert (run.status, run.failure_code, run.result, run.attempts) == ("failed", "disk_full", None, 1)
    assert run.failure_message == full_message(here.files)
    assert messages(here, run.id)[-1] == f"failed, disk_full: {run.failure_message}"
    assert [name for name in here.files.fs.find(here.files.root) if "/runs/" in name] == []
    assert left_folders(here) == []


@pytest.mark.slow
@SQLITE
def test_a_checkpoint_that_does_not_fit_costs_no_run_and_no_earlier_checkpoint(here: Context, disk: SmallDisk) -> None:
    run_id = submitted(here)

    def fill_then_drain() -> None:
        until(lambda: [c.step for c in row(here, run_id).checkpoints] == [3, 6], 30)
        disk.fill()
        with here.database.transaction() as session:
            workers.drain(session, "w1")

    filling = threading.Thread(target=fill_then_drain)
    filling.start()
    run = attempt(here, claimed(here, run_id), "leaves-two-checkpoints")
    filling.join()
    assert (run.status, run.failure_code, [c.step for c in run.checkpoints]) == ("queued", None, [3, 6])
    for checkpoint in run.checkpoints:
        require_whole(here.files, checkpoint)
    assert {Path(name).parent.name for name in stored(here)} == {"1-3", "1-6"}, "nothing of the one that did not fit"

    disk.free()
    assert attempt(here, claimed(here, run_id), "leaves-two-checkpoints").status == "succeeded"
    assert "going on from step 6" in messages(here, run_id)
    assert (stored(here), left_folders(here)) == ([], [])
