"""The name of a worker: the host's, unless another worker on this host has it already.

A worker reserves its name by a lock on a file for as long as it runs; the kernel releases it however the worker ends.
"""

import fcntl
import hashlib
import os
import socket
import tempfile
from pathlib import Path

MOST = 100
"""Workers on a host."""
_reserved: str | None = None


def name() -> str:
    """The name that this worker, or the worker that is the parent of this process, has reserved; else the host's."""
    return _reserved or socket.gethostname()


def host() -> str:
    """With which the names of all workers of this machine begin, unless `worker_name` says otherwise."""
    return socket.gethostname()


def reserve(database: str) -> str:
    """Reserve the host's name among the workers of a database on this host, else `HOST-2`, `HOST-3` and so on.

    Without a directory for locks it is the host's.
    """
    global _reserved
    installation = hashlib.sha256(database.encode()).hexdigest()[:12]
    host = socket.gethostname()
    for free in (host, *(f"{host}-{number}" for number in range(2, MOST))):
        if _lock(Path(tempfile.gettempdir()) / f"vezna-worker-{installation}-{free}.lock"):
            _reserved = free
            break
    return name()


def _lock(file: Path) -> bool:
    """Lock a file until this process ends. False if another process has locked it, or it is another user's."""
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return False
    # A pool child that outlives its worker for a moment must not keep the name from the next one.
    os.register_at_fork(after_in_child=lambda: os.close(descriptor))
    return True
