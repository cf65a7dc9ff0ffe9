"""Full disks: which errors mean one, and which disk they name."""

import errno
import os
from pathlib import Path

from sqlalchemy.exc import OperationalError

from app.domain.failures import FailureCode
from worker.machine import disk
from worker.training.outcome import failure_of


def no_space(*names: str | None) -> OSError:
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    error.filename, error.filename2 = (*names, None, None)[:2]
    return error


def test_a_copy_that_does_not_fit_names_the_disk_of_its_target(tmp_path: Path) -> None:
    assert disk.place(no_space("/source/a", "/target/a"), tmp_path) == Path("/target/a")
    assert disk.place(no_space("/target/a"), tmp_path) == Path("/target/a")
    assert disk.place(no_space(), tmp_path) == tmp_path


def test_a_full_disk_in_the_supervisor_is_that_of_the_attempt(tmp_path: Path) -> None:
    failure = failure_of(no_space(), tmp_path)
    assert failure.code is FailureCode.DISK_FULL
    assert failure.message.startswith(f"The worker's disk with {tmp_path} is full: ")
    assert failure.message.endswith(" are free. Free some space there, then submit the run again.")


def test_an_error_of_the_database_is_about_another_disk() -> None:
    error = OperationalError("INSERT", {"message": "No space left on device"}, Exception("the connection is lost"))
    assert "No space left" in str(error) and not disk.is_full(error)
