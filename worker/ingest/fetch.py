"""Copy an upload's files into the files store, from a directory or from the Hugging Face Hub."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from app.domain.data.guesses.guessed_names import split_in_name
from app.domain.data.uploads import KINDS, MOST_PARTS, READABLE, Part, shown_name
from app.domain.messages import _
from app.store.files.files import CHUNK, Files, StoreUnavailable
from worker.children.work import PROGRESS_SECONDS, ReportProgress, WorkCancelled, WorkFailed
from worker.ingest.host import IngestQueue
from worker.machine import disk

Unused = Callable[[list[Part]], list[Part]]
"""Selects the files that no upload refers to."""


@contextmanager
def kept(files: Files, unused: Unused) -> Iterator[list[Part]]:
    """Remove the files stored inside the block if it fails, except those that an upload refers to by then."""
    stored: list[Part] = []
    try:
        yield stored
    except BaseException:
        for part in unused(stored):
            files.discard(part.file)
        raise


def from_directory(files: Files, location: Path, report: ReportProgress, stored: list[Part]) -> None:
    """Store a file, or the files of a directory and its subdirectories. Raises WorkFailed."""
    paths = _readable(location)
    several = len(paths) > 1
    for path in paths:
        split = split_in_name(path.name) or split_in_name(path.parent.name if path.parent != location else "")
        stored.append(_stored(files, path, (split or path.stem) if several else "", report))
    stored.sort(key=lambda part: (part.split, part.name))


def from_hub(
    files: Files, ingest: IngestQueue, request: dict[str, Any], folder: Path, report: ReportProgress, stored: list[Part]
) -> str:
    """Store the splits of a hub dataset, and return the commit. Raises WorkFailed."""
    fetched = ingest.run({"fetch": request | {"folder": str(folder)}}, report)["fetched"]
    several = len(fetched["splits"]) > 1
    for split, path in fetched["splits"].items():
        name = f"{split_in_name(split) or split or 'rows'}.parquet"
        part = _stored(files, Path(path), (split_in_name(split) or split) if several else "", report)
        stored.append(part.model_copy(update={"name": shown_name(name)}))
    stored.sort(key=lambda part: (part.split, part.name))
    return str(fetched["commit"])


def _readable(location: Path) -> list[Path]:
    if location.is_file():
        return [location]
    if not location.is_dir():
        raise WorkFailed(
            _(
                "%(location)s does not exist on this worker. Mount the same directories for web and workers.",
                location=location.name,
            )
        )
    inside = location.resolve()
    paths = sorted(
        path
        for path in location.rglob("*")
        if path.suffix.lower() in KINDS
        and not any(piece.startswith(".") for piece in path.relative_to(location).parts)
        and path.is_file()
        and path.resolve().is_relative_to(inside)  # no link leads outside the allowed root
    )
    if not paths:
        raise WorkFailed(
            _(
                "%(location)s contains no file that Vezna reads: %(readable)s, by the endings of their names.",
                location=location.name,
                readable=READABLE,
            )
        )
    if len(paths) > MOST_PARTS:
        raise WorkFailed(
            _(
                "%(location)s contains %(count)s files, and an upload has at most %(limit)s. Join some.",
                location=location.name,
                count=len(paths),
                limit=MOST_PARTS,
            )
        )
    kinds = {KINDS[path.suffix.lower()] for path in paths}
    if len(kinds) > 1:
        raise WorkFailed(
            _(
                "%(location)s contains files of several kinds (%(kinds)s). Use a directory with one kind.",
                location=location.name,
                kinds=", ".join(sorted(kinds)),
            )
        )
    return paths


def _stored(files: Files, path: Path, split: str, report: ReportProgress) -> Part:
    next_sign = time.monotonic()
    try:
        with path.open("rb") as source, files.receive(sys.maxsize) as incoming:
            while data := source.read(CHUNK):
                incoming.write(data)
                if (at := time.monotonic()) >= next_sign:
                    next_sign = at + PROGRESS_SECONDS
                    if not report(0.0, 0):
                        raise WorkCancelled
            file = incoming.done()
    except StoreUnavailable:
        raise
    except OSError as error:
        if disk.is_full(error):  # that of the files store
            raise
        raise WorkFailed(_("%(path)s cannot be read: %(why)s.", path=path.name, why=error.strerror)) from error
    if not file.bytes:
        raise WorkFailed(_("%(path)s is empty.", path=path.name))
    return Part(name=shown_name(path.name), sha256=file.sha256, bytes=file.bytes, split=split, file=file.file)
