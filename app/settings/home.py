"""The home directory of an installation on one machine: held by one process, and closed to other users."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from app.domain.errors import Unavailable
from app.domain.messages import _

log = structlog.get_logger()


@contextmanager
def locked(home: Path) -> Iterator[None]:
    """Hold the lock on a home directory; the kernel releases it however this process ends.

    Raises Unavailable if another process holds the lock or the directory is not writable.
    """
    try:
        home.mkdir(parents=True, exist_ok=True)
        file = (home / "lock").open("a+")
    except OSError as error:
        raise Unavailable(
            _(
                "Vezna cannot write to its home directory %(home)s (%(why)s). Change its permissions, or set "
                "VEZNA_HOME to another directory.",
                home=home,
                why=error.strerror,
            )
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise Unavailable(
                _(
                    "Vezna already runs in %(home)s (process %(process)s). Stop it, or set VEZNA_HOME to another "
                    "directory.",
                    home=home,
                    process=file.read().strip() or _("of another user"),
                )
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


@contextmanager
def private_files(home: Path) -> Iterator[None]:
    """Keep other users of the machine from what this process and its children write, and from a home directory that
    was open to them."""
    before = os.umask(0o077)
    try:
        if home.is_dir():
            home.chmod(0o700)
    except PermissionError:
        log.warning("the home directory belongs to another user, so others may read it", directory=str(home))
    try:
        yield
    finally:
        os.umask(before)
