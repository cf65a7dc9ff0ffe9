"""The folder of an attempt: dataset, job file, checkpoints, output. It goes with the attempt.

A worker that is killed leaves its folder behind; the lock that it held is gone with it, so the next worker of the same
home knows that nobody needs the folder any more.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def workdir(home: Path) -> Iterator[Path]:
    """A new folder, held until the end and then removed."""
    parent = home / "work"
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="run-", dir=parent, ignore_cleanup_errors=True) as folder:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield Path(folder)
        finally:
            os.close(descriptor)


def remove_abandoned(home: Path) -> None:
    """Remove the folders that nobody holds."""
    for folder in (home / "work").glob("run-*"):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            continue  # its attempt is under way
        finally:
            os.close(descriptor)
