"""The ingest process, which reads users' files: `python -P -m worker.ingest.child`.

    stdin    one request: {"fetch": …}, {"read": …} or {"prepare": …}, see the models below
    stdout   progress from time to time, {"share": 0.4, "rows": 12000}; at the end {"fetched": …}, {"scan": SourceScan},
             {"facts": …, "findings": …} or {"error": a sentence}

A user's file is untrusted: whatever it does to this process, nothing else is affected. The process has a memory limit
and a low priority, and ends with its parent.
"""

import json
import os
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from app.domain.data.guesses.guessed_names import guess_splitting
from app.domain.data.guesses.guesses import guess_mapping
from app.domain.data.guesses.mapping import ColumnMapping
from app.domain.data.splitting import Splitting
from app.domain.data.uploads import Part, ReadingOptions, SourceRequest, SourceScan
from app.domain.errors import VeznaError
from app.domain.messages import _
from app.domain.models.hub_access import HubAccess
from app.imports import import_large
from worker.children.child import answer_channel, confine, yield_processor
from worker.ingest.findings.oddities import Oddities
from worker.ingest.findings.skipped import skipped_files
from worker.ingest.findings.tag_schemes import TagScheme
from worker.ingest.images.pixel_count import PixelCount
from worker.ingest.prepare import prepare
from worker.ingest.readers.batches import LocalPart, Opened, Unreadable, check_columns, internal_error
from worker.ingest.readers.files import Files, Progress
from worker.ingest.rows.columns import ColumnScan


def scan(parts: Sequence[LocalPart], options: ReadingOptions, progress: Progress) -> SourceScan:
    """Read every row once. Raises Unreadable with a message that names file and row."""
    files = Files(parts, options, progress)
    columns: dict[str, ColumnScan] = {}
    splits: dict[str, int] = {}
    several, tags = len(parts) > 1, dict[str, TagScheme]()
    oddities, pixels = Oddities(several), PixelCount()
    skipped: dict[str, Sequence[str]] = {}
    rows = 0
    first: Opened | None = None
    for local in parts:
        opened = files.open(local)
        skipped[local.part.name] = opened.skipped
        guessed = opened.encoding if opened.guessed_encoding else ""
        part_rows, names = 0, set[str]()
        for batch in opened.batches:
            pixels.add(batch, local.part.name)
            for name, values in batch.columns.items():
                if name not in columns:
                    columns[name] = ColumnScan(name)
                    columns[name].absent(rows)
                columns[name].add(values)
                tags.setdefault(name, TagScheme(several)).add(values, batch.rows, local.part.name)
            for name, column in columns.items():
                if name not in batch.columns:
                    column.absent(len(batch.rows))
            oddities.add(batch, local.part.name, guessed)
            names |= set(batch.columns)
            part_rows += len(batch.rows)
            rows += len(batch.rows)
        if not part_rows:
            raise Unreadable(_("%(name)s has no rows.", name=local.part.name))
        _same_columns(parts[0].part.name, list(columns), local.part.name, names)
        splits[local.part.split] = splits.get(local.part.split, 0) + part_rows
        first = first or opened
    assert first is not None  # noqa: S101 an upload has at least one file
    check_columns(parts[0].part.name, list(columns))
    scanned = [column.column for column in columns.values()]
    mapping, reason = guess_mapping(scanned, rows)
    tag_column = mapping.columns["tags"] if mapping is not None and mapping.format == "tagged" else ""
    converted = [tags[tag_column].finding(tag_column)] if tag_column else []
    return SourceScan(
        kind=first.kind,
        encoding=first.encoding,
        delimiter=first.delimiter,
        header=first.header,
        rows=rows,
        splits=splits,
        columns=scanned,
        mapping=mapping,
        reason=reason,
        splitting=guess_splitting(list(splits), scanned),
        findings=[*oddities.findings(), *skipped_files(skipped, several=several), *filter(None, converted)],
    )


def _same_columns(first: str, columns: Sequence[str], name: str, names: set[str]) -> None:
    lacking = [column for column in columns if column not in names]
    if lacking and first != name:
        text = _(
            "%(name)s has no column %(column)r, which another file of this upload has; its own are %(columns)s. Upload "
            "files with the same columns.",
            name=name,
            column=lacking[0],
            columns=", ".join(sorted(names))[:200],
        )
        raise Unreadable(text)


MAX_BYTES = 2 * 2**30
"""Limit of writable memory; 1 GB of CSV takes a fifth of it."""
PROGRESS_SECONDS = 0.5


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")

    parts: list[Part]
    paths: list[Path]
    """The local path of each part."""
    options: ReadingOptions

    @property
    def local(self) -> list[LocalPart]:
        return [LocalPart(part, path) for part, path in zip(self.parts, self.paths, strict=True)]


class FetchRequest(SourceRequest):
    model_config = ConfigDict(hide_input_in_errors=True)

    folder: Path
    """The folder for its files."""
    hub: HubAccess | None = Field(default=None, repr=False)
    """Hub access of the upload's owner."""


class ReadRequest(_Request):
    """Scan an upload."""


class PrepareRequest(_Request):
    mapping: ColumnMapping
    splitting: Splitting
    target: Path


class ProgressWriter:
    """Writes progress, at most every `PROGRESS_SECONDS`."""

    def __init__(self, answers: Any) -> None:
        self._answers, self._next = answers, 0.0

    def __call__(self, share: float, rows: int) -> None:
        if (at := time.monotonic()) >= self._next:
            self._next = at + PROGRESS_SECONDS
            self.write({"share": share, "rows": rows})

    def write(self, message: dict[str, Any]) -> None:
        self._answers.write(f"{json.dumps(message)}\n")
        self._answers.flush()


def answer(request: dict[str, Any], progress: ProgressWriter) -> dict[str, Any]:
    """Answer a request. Raises MemoryError only."""
    try:
        if "fetch" in request:
            return {"fetched": _fetch(FetchRequest.model_validate(request["fetch"]), progress)}
        if "read" in request:
            read = ReadRequest.model_validate(request["read"])
            return {"scan": scan(read.local, read.options, progress).model_dump(mode="json")}
        preparation = PrepareRequest.model_validate(request["prepare"])
        prepared = prepare(
            preparation.local,
            preparation.options,
            preparation.mapping,
            preparation.splitting,
            preparation.target,
            progress,
        )
        facts = prepared.facts.model_dump(mode="json") if prepared.facts else None
        return {"facts": facts, "findings": [finding.model_dump(mode="json") for finding in prepared.findings]}
    except VeznaError as error:
        return {"error": error.message}
    except MemoryError:
        raise
    except Exception as error:
        traceback.print_exc()
        return {"error": internal_error(error)}


def _fetch(request: FetchRequest, progress: ProgressWriter) -> dict[str, Any]:
    try:
        hub = import_large("worker.ingest.readers.hub")
    except ModuleNotFoundError as error:
        text = _(
            "Hub datasets need the package %(package)s on the workers. Install it with: pip install 'vezna[hub]'",
            package=error.name,
        )
        raise Unreadable(text) from error
    fetched = hub.fetch(request, request.folder, progress, request.hub)
    return {"commit": fetched.commit, "splits": {split: str(path) for split, path in fetched.splits.items()}}


def main() -> int:
    confine(MAX_BYTES)
    yield_processor()
    with answer_channel() as answers:
        progress = ProgressWriter(answers)
        try:
            progress.write(answer(json.loads(sys.stdin.readline()), progress))
        except MemoryError:
            text = _(
                "Reading this data takes more than %(limit)s GiB of memory. Split the file, or shorten its longest "
                "fields.",
                limit=MAX_BYTES >> 30,
            )
            progress.write({"error": text})
            return 1
    return 0


if __name__ == "__main__":
    status = main()
    sys.stderr.flush()
    os._exit(status)
