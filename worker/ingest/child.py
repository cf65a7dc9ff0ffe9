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
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from app.domain.data.guesses.mapping import ColumnMapping
from app.domain.data.splitting import Splitting
from app.domain.data.uploads import Part, ReadingOptions, SourceRequest
from app.domain.errors import VeznaError
from app.domain.messages import _
from app.domain.models.hub_access import HubAccess
from app.imports import import_large
from worker.children.child import answer_channel, confine, yield_processor
from worker.ingest.prepare import prepare
from worker.ingest.readers.batches import LocalPart, Unreadable, internal_error
from worker.ingest.scan import scan

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
        """The parts with their paths."""
        return [LocalPart(part, path) for part, path in zip(self.parts, self.paths, strict=True)]


class FetchRequest(SourceRequest):
    """Download a dataset from the hub."""

    model_config = ConfigDict(hide_input_in_errors=True)

    folder: Path
    """The folder for its files."""
    hub: HubAccess | None = Field(default=None, repr=False)
    """Hub access of the upload's owner."""


class ReadRequest(_Request):
    """Scan an upload."""


class PrepareRequest(_Request):
    """Prepare a dataset's file from an upload."""

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
    """Answer one request; returns the exit status."""
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
