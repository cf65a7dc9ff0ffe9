"""Copy an upload's files into the files store, from a directory or from the Hugging Face Hub."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from app.domain.data.guesses import split_in_name
from app.domain.data.uploads import KINDS, MOST_PARTS, READABLE, Part, shown_name
from app.store.files import CHUNK, Files
from worker.ingest.host import PROGRESS_SECONDS, IngestCancelled, IngestFailed, IngestQueue, ReportProgress

Unused = Callable[[list[Part]], list[Part]]
"""Selects the files that no upload refers to."""


@contextmanager
def kept(files: Files, unused: Unused) -> Iterator[list[Part]]:
    """Remove the files stored inside if an error occurs. Each try stores its own files, and one that an upload refers
    to by now stays."""
    stored: list[Part] = []
    try:
        yield stored
    except BaseException:
        for part in unused(stored):
            files.discard(part.file)
        raise


def from_directory(files: Files, location: Path, report: ReportProgress, stored: list[Part]) -> None:
    """Store a file, or the files of a directory and its subdirectories. Raises IngestFailed."""
    found = _readable(location)
    several = len(found) > 1
    for path in found:
        split = split_in_name(path.name) or split_in_name(path.parent.name if path.parent != location else "")
        stored.append(_stored(files, path, (split or path.stem) if several else "", report))
    stored.sort(key=lambda part: (part.split, part.name))


def from_hub(
    files: Files, ingest: IngestQueue, request: dict[str, Any], folder: Path, report: ReportProgress, stored: list[Part]
) -> str:
    """Store the splits of a hub dataset, and return the commit. Raises IngestFailed."""
    found = ingest.run({"fetch": request | {"folder": str(folder)}}, report)["fetched"]
    several = len(found["splits"]) > 1
    for split, path in found["splits"].items():
        name = f"{split_in_name(split) or split or 'rows'}.parquet"
        part = _stored(files, Path(path), (split_in_name(split) or split) if several else "", report)
        stored.append(part.model_copy(update={"name": shown_name(name)}))
    stored.sort(key=lambda part: (part.split, part.name))
    return str(found["commit"])


def _readable(location: Path) -> list[Path]:
    if location.is_file():
        return [location]
    if not location.is_dir():
        raise IngestFailed(f"{location} does not exist on this worker: web and workers must see the same directories.")
    inside = location.resolve()
    found = sorted(
        path
        for path in location.rglob("*")
        if path.suffix.lower() in KINDS
        and not any(piece.startswith(".") for piece in path.relative_to(location).parts)
        and path.is_file()
        and path.resolve().is_relative_to(inside)  # no link leads outside the allowed root
    )
    if not found:
        raise IngestFailed(f"{location} holds no file that Vezna reads: {READABLE}, by the endings of their names.")
    if len(found) > MOST_PARTS:
        raise IngestFailed(f"{location} holds {len(found)} files, and an upload has at most {MOST_PARTS}: join some.")
    kinds = {KINDS[path.suffix.lower()] for path in found}
    if len(kinds) > 1:
        names = ", ".join(sorted(kinds))
        raise IngestFailed(f"{location} holds files of several kinds ({names}): name a directory with one kind.")
    return found


def _stored(files: Files, path: Path, split: str, report: ReportProgress) -> Part:
    next_sign = time.monotonic()
    try:
        with path.open("rb") as source, files.receive(sys.maxsize) as incoming:
            while data := source.read(CHUNK):
                incoming.write(data)
                if (at := time.monotonic()) >= next_sign:
                    next_sign = at + PROGRESS_SECONDS
                    if not report(0.0, 0):
                        raise IngestCancelled
            found = incoming.done()
    except OSError as error:
        raise IngestFailed(f"{path} cannot be read: {error.strerror}.") from error
    if not found.bytes:
        raise IngestFailed(f"{path} is empty.")
    return Part(name=shown_name(path.name), sha256=found.sha256, bytes=found.bytes, split=split, file=found.file)
