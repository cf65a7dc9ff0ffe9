"""Fault 17: the disk is full. The run says so, or does without a checkpoint; the last good checkpoint stays whole."""

import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.domain.failures import FAILURES, FailureCode
from app.services.attempts import Claim
from app.store.files import sha256
from app.store.queries import workers
from tests.running_stack import until
from tests.supervised import attempt, claimed, left_folders, messages, row, stored, submitted
from worker.context import Context

pytestmark = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


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
    place = Path(here.files.root)
    before = shutil.copytree(place, place.with_name("before"))
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    if (done := subprocess.run(mount, capture_output=True, text=True, check=False)).returncode:
        pytest.skip(f"only root with CAP_SYS_ADMIN may mount the small disk that this fills: {done.stderr.strip()}")
    try:
        shutil.copytree(before, place, dirs_exist_ok=True)
        yield SmallDisk(place)
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_results_that_do_not_fit_the_disk_fail_as_disk_full(here: Context, claim: Claim, disk: SmallDisk) -> None:
    disk.fill()
    run = attempt(here, claim, "succeeds")
    assert (run.status, run.failure_code, run.result, run.attempts) == ("failed", "disk_full", None, 1)
    assert (run.failure_message or "").startswith(FAILURES[FailureCode.DISK_FULL])
    assert messages(here, run.id)[-1].startswith("failed, disk_full: ")
    assert [name for name in here.files.fs.find(here.files.root) if "/runs/" in name] == []
    assert left_folders(here) == []


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
        for name, digest in checkpoint.files.items():
            assert sha256(Path(here.files.root, checkpoint.prefix, name)) == digest
    assert {Path(name).parent.name for name in stored(here)} == {"1-3", "1-6"}, "nothing of the one that did not fit"

    disk.free()
    assert attempt(here, claimed(here, run_id), "leaves-two-checkpoints").status == "succeeded"
    assert "going on from step 6" in messages(here, run_id)
    assert (stored(here), left_folders(here)) == ([], [])
