"""Artifacts and datasets as files at an fsspec URL: a local directory, s3:// and others.

Names inside the store are made by Vezna (`runs/46/2/predictions.parquet`), never by a user.
"""

import errno
import hashlib
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any, NamedTuple, Self, cast

import fsspec

from app.domain.errors import Invalid, NotFound, Unavailable, VeznaError
from app.domain.messages import _
from app.store.files import s3

SAFE = re.compile(r"[A-Za-z0-9_\-][A-Za-z0-9._\-]*(/[A-Za-z0-9_\-][A-Za-z0-9._\-]*)*")
CHUNK = 1 << 20
UPLOADS = "uploads"
"""Folder of received files, complete or still arriving."""
RUNS = "runs"
DATASETS = "datasets"
"""Folder of the rows of versions of datasets."""
BUSY = {errno.EBUSY, errno.EREMOTEIO}
"""What s3fs makes of the answers 503 and 500."""
QUIET_SECONDS = 30.0
"""Pause in discarding files after the store has not answered."""


def run_folder(run_id: int) -> str:
    """Folder of everything that a run stores: artifacts by attempt, and checkpoints."""
    return f"{RUNS}/{run_id}"


class Stored(NamedTuple):
    sha256: str
    bytes: int
    file: str
    """Its name in the store. Names are never reused, so a removal never hits a file that has just arrived."""


class StoreUnavailable(Unavailable, OSError):
    """The store does not answer, whatever its library raised: botocore's errors are no OSError."""


@contextmanager
def _answered() -> Iterator[None]:
    """Turns what a store's library raises when the store is away into StoreUnavailable."""
    try:
        yield
    except (ValueError, VeznaError):
        raise
    except Exception as error:
        away = isinstance(error, ConnectionError | TimeoutError) or getattr(error, "errno", None) in BUSY
        away = away or s3.is_of_client(error)  # some of them are OSErrors, others are not
        if isinstance(error, OSError) and not away:
            raise
        why = f"{type(error).__name__}: {error}"
        raise StoreUnavailable(_("The files store does not answer (%(why)s). Try again later.", why=why)) from error


class Files:
    """A place for files. `url` is a directory or an fsspec URL. A store that is away raises StoreUnavailable."""

    def __init__(self, url: str) -> None:
        # Without a cache of listings: files of other processes must be visible at once.
        self.fs, self.root = fsspec.core.url_to_fs(url, use_listings_cache=False, **s3.options(url))
        s3.limit_tries(self.fs)
        self._quiet_until = 0.0

    @_answered()
    def put(self, source: Path, name: str) -> None:
        """Copy a local file into the store, replacing what is there. It has its name only once it is complete: an
        object store writes it whole, and in a directory it is renamed."""
        target = self._writable(name)
        if self.directory is None:
            self.fs.put_file(str(source), target)
            return
        part = Path(f"{target}.{secrets.token_hex(4)}.part")
        try:
            self.fs.put_file(str(source), str(part))
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)

    @_answered()
    def get(self, name: str, target: Path) -> None:
        """Copy a file out of the store."""
        path = self._existing(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        self.fs.get_file(path, str(target))

    @_answered()
    def open(self, name: str) -> IO[bytes]:
        return cast(IO[bytes], self.fs.open(self._existing(name), "rb"))

    def receive(self, most_bytes: int) -> "Incoming":
        """A file that arrives in pieces, of unknown size."""
        return Incoming(self, most_bytes)

    @_answered()
    def names(self, folder: str) -> set[str]:
        """Names of the files in a folder."""
        path = self._path(folder)
        try:
            paths = self.fs.ls(path, detail=False)
        except FileNotFoundError:  # there is none, or its last file has just been removed
            paths = []
        return {f"{folder}/{str(path).rpartition('/')[2]}" for path in paths}

    @_answered()
    def names_below(self, folder: str) -> set[str]:
        """Names of the files in a folder and in the folders inside it."""
        return {str(path).removeprefix(f"{self.root}/") for path in self.fs.find(self._path(folder))}

    @_answered()
    def age(self, name: str) -> timedelta:
        """Time since a file was last written. Raises NotFound."""
        written: datetime = self.fs.modified(self._existing(name))
        return datetime.now(UTC) - written.astimezone(UTC)

    @_answered()
    def local(self, name: str) -> Path | None:
        """The path of a file if the store is a local directory. Raises NotFound."""
        path = self._existing(name)
        return Path(path) if self.directory is not None else None

    @property
    def directory(self) -> Path | None:
        """Where its files are, if the store is a local directory."""
        return Path(self.root) if "file" in _listed(self.fs.protocol) else None

    @property
    def free_bytes(self) -> int | None:
        """Free space of the store's disk; None if it is not a local directory."""
        if self.directory is None:
            return None
        return shutil.disk_usage(next(p for p in (self.directory, *self.directory.parents) if p.exists())).free

    @_answered()
    def exists(self, name: str) -> bool:
        return bool(self.fs.exists(self._path(name)))

    def chunks(self, name: str) -> Iterator[bytes]:
        """A file's bytes, in blocks of a megabyte. Raises NotFound at once, not with the first block."""
        return _blocks(self.open(name))

    @_answered()
    def remove(self, prefix: str) -> None:
        """Remove a file, or a folder with its contents, if it exists."""
        path = self._path(prefix)
        if self.fs.exists(path):
            self.fs.rm(path, recursive=True)

    def discard(self, name: str) -> None:
        """Remove a file that is no longer referenced. If that fails, the control node removes it later; so it does with
        the next ones if the store does not answer, for each would wait for it."""
        if time.monotonic() < self._quiet_until:
            return
        try:
            self.remove(name)
        except StoreUnavailable:
            self._quiet_until = time.monotonic() + QUIET_SECONDS
        except OSError:
            return

    def _path(self, name: str) -> str:
        if not SAFE.fullmatch(name):
            raise ValueError(f"not a name that the files store makes: {name!r}")
        return f"{self.root}/{name}"

    def _writable(self, name: str) -> str:
        """The path of a file, whose folder exists afterwards; S3 has no folders."""
        path = self._path(name)
        if not s3.is_s3(self.fs):
            self.fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        return path

    def _existing(self, name: str) -> str:
        path = self._path(name)
        if not self.fs.exists(path):
            raise NotFound(_("The file %(name)s is no longer in the store.", name=name))
        return path


class Incoming:
    """A file that is being received: `with files.receive(most) as incoming`. It is removed unless `done` is called."""

    def __init__(self, files: Files, most_bytes: int) -> None:
        self._files, self._most = files, most_bytes
        self._name = f"{UPLOADS}/{secrets.token_hex(16)}"
        self._digest, self._bytes = hashlib.sha256(), 0
        self._stored = False

    @_answered()
    def __enter__(self) -> Self:
        self._path = self._files._writable(self._name)
        self._file = cast(IO[bytes], self._files.fs.open(self._path, "wb"))
        return self

    @_answered()
    def write(self, data: bytes) -> None:
        """The next piece. Raises Invalid once there are too many bytes."""
        self._bytes += len(data)
        if self._bytes > self._most:
            raise too_large(self._most)
        self._digest.update(data)
        self._file.write(data)

    @property
    def sha256(self) -> str:
        """Hex SHA-256 of the bytes so far."""
        return self._digest.hexdigest()

    @_answered()
    def done(self) -> Stored:
        self._file.close()
        self._stored = True
        return Stored(self.sha256, self._bytes, self._name)

    def __exit__(self, *_: object) -> None:
        # No error of the cleanup may replace the upload's own; the control node removes what stays.
        with suppress(Exception):
            self._file.close()
        if not self._stored:
            with suppress(Exception):
                self._files.fs.rm(self._path)


def too_large(most_bytes: int) -> Invalid:
    """The error for a file above the upload limit."""
    most = f"{most_bytes / 2**30:.3g} GiB" if most_bytes >= 2**28 else f"{most_bytes / 2**20:.3g} MiB"
    return Invalid.field(
        "file",
        _("The file is larger than the upload limit of %(most)s", most=most),
        _("Upload a part of it, put it into a directory under VEZNA_DATA_ROOTS, or raise VEZNA_UPLOAD_BYTES"),
    )


def _listed(protocol: str | tuple[str, ...]) -> tuple[str, ...]:
    return (protocol,) if isinstance(protocol, str) else protocol


def _blocks(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while block := file.read(CHUNK):
            yield block


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(cast(Any, file), "sha256").hexdigest()
