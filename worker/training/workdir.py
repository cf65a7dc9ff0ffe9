"""The folder of an attempt: dataset, job file, checkpoints, output. Removed when the attempt ends.

A killed worker leaves its folder behind but loses its lock, so the next worker of the same home can tell that the
folder is abandoned.
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
    """A new folder, locked while in use and then removed."""
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
    """Remove the folders that no process has locked."""
    for folder in (home / "work").glob("run-*"):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            continue  # its attempt is running
        finally:
            os.close(descriptor)
