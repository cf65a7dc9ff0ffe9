"""Artifacts and datasets as files behind an fsspec URL: a local directory, or s3:// and its kind.

Names inside the store are made by Vezna (`runs/46/2/predictions.parquet`), never by a user.
"""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

import fsspec

from app.domain.errors import NotFound

SAFE = re.compile(r"[A-Za-z0-9_\-][A-Za-z0-9._\-]*(/[A-Za-z0-9_\-][A-Za-z0-9._\-]*)*")
CHUNK = 1 << 20


class Files:
    """A place for files. `url` is a directory or an fsspec URL."""

    def __init__(self, url: str) -> None:
        self.fs, self.root = fsspec.core.url_to_fs(url)

    def put(self, source: Path, name: str) -> None:
        """Copy a local file into the store, replacing what is there."""
        target = self._path(name)
        self.fs.makedirs(target.rpartition("/")[0], exist_ok=True)
        self.fs.put_file(str(source), target)

    def get(self, name: str, target: Path) -> None:
        """Copy a file out of the store."""
        path = self._existing(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        self.fs.get_file(path, str(target))

    def open(self, name: str) -> IO[bytes]:
        """Open a file for reading."""
        return cast(IO[bytes], self.fs.open(self._existing(name), "rb"))

    def chunks(self, name: str) -> Iterator[bytes]:
        """A file's bytes, a megabyte at a time. Raises NotFound at once, not when the first one is asked for."""
        return _blocks(self.open(name))

    def remove(self, prefix: str) -> None:
        """Remove a folder and what is in it; nothing happens if it is not there."""
        path = self._path(prefix)
        if self.fs.exists(path):
            self.fs.rm(path, recursive=True)

    def _path(self, name: str) -> str:
        if not SAFE.fullmatch(name):
            raise ValueError(f"not a name that the files store makes: {name!r}")
        return f"{self.root}/{name}"

    def _existing(self, name: str) -> str:
        path = self._path(name)
        if not self.fs.exists(path):
            raise NotFound(f"the file {name} is no longer in the store")
        return path


def _blocks(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while block := file.read(CHUNK):
            yield block


def sha256(path: Path) -> str:
    """Hex SHA-256 of a local file."""
    with path.open("rb") as file:
        return hashlib.file_digest(cast(Any, file), "sha256").hexdigest()
