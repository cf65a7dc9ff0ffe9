"""The folder of an attempt: dataset, job file, checkpoints, output. Removed when the attempt ends.

A killed worker or pool child leaves its folder behind but loses its lock, so the next one of the same home can tell
that the folder is abandoned.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path


@contextmanager
def workdir(home: Path) -> Iterator[Path]:
    """A new folder, locked while in use and then removed."""
    parent = home / "work"
    parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        with _locked(parent):  # until it is locked itself, it looks abandoned
            folder = Path(
                stack.enter_context(tempfile.TemporaryDirectory(prefix="run-", dir=parent, ignore_cleanup_errors=True))
            )
            stack.enter_context(_locked(folder))
        yield folder


def remove_abandoned(home: Path) -> None:
    """Remove the folders that no process has locked."""
    parent = home / "work"
    if not parent.is_dir():
        return
    with _locked(parent):
        for folder in parent.glob("run-*"):
            # else its attempt is running, or has just removed it
            with suppress(BlockingIOError, FileNotFoundError), _locked(folder, fcntl.LOCK_NB):
                shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(folder: Path, flags: int = 0) -> Iterator[None]:
    """Hold the lock of a folder. Raises BlockingIOError with LOCK_NB if another process holds it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | flags)
        yield
    finally:
        os.close(descriptor)
