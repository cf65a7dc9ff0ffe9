"""Key files of an installation, in its home directory: written once, for their owner alone."""

import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


def read_or_write(file: Path, new: Callable[[], bytes]) -> bytes:
    """The key in a file, which is written with a `new` one if it does not exist. Processes that begin together read
    the same key. Raises OSError."""
    with suppress(FileNotFoundError):
        return file.read_bytes()
    with suppress(FileExistsError):
        _write_once(file, new())
    return file.read_bytes()


def _write_once(file: Path, content: bytes) -> None:
    """Write a new file, complete once it is there. Raises FileExistsError."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as written:
            written.write(content)
            written.flush()
            os.fsync(written.fileno())  # or a crash could leave the name of an empty file
        os.link(part, file)
    finally:
        part.unlink()
