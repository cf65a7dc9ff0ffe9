"""Read what users bring, in a process of its own: `python -P -m worker.ingest.child`.

    stdin    one request: {"fetch": …}, {"read": …} or {"prepare": …}, see the models below
    stdout   {"share": 0.4, "rows": 12000} now and then; at the end {"fetched": …}, {"scan": SourceScan},
             {"facts": …, "findings": …} or {"error": a sentence}

A file is a stranger's: whatever it does to the process, nothing else comes to harm. It has a limit of memory, lets
other processes go first, and ends together with its parent.
"""

import importlib
import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from app.domain.data.mapping import ColumnMapping
from app.domain.data.splitting import Splitting
from app.domain.data.uploads import Part, ReadingOptions, SourceRequest
from app.domain.errors import VeznaError
from worker.children.child import answer_channel, confine, yield_processor
from worker.ingest.prepare import prepare
from worker.ingest.readers.batches import LocalPart, Unreadable
from worker.ingest.scan import scan

MAX_BYTES = 2 * 2**30
"""Of memory that it writes to; 1 GB of CSV takes a fifth of it."""
TELL_SECONDS = 0.5


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")

    parts: list[Part]
    paths: list[Path]
    """Where each part lies on this machine."""
    options: ReadingOptions

    @property
    def local(self) -> list[LocalPart]:
        """The files."""
        return [LocalPart(part, path) for part, path in zip(self.parts, self.paths, strict=True)]


class FetchRequest(SourceRequest):
    """Fetch a dataset of the hub."""

    folder: Path
    """Where its files are to lie."""


class ReadRequest(_Request):
    """Look through an upload."""


class PrepareRequest(_Request):
    """Make a dataset's file of an upload."""

    mapping: ColumnMapping
    splitting: Splitting
    target: Path


class Teller:
    """Says how far it is, not too often."""

    def __init__(self, answers: Any) -> None:
        self._answers, self._next = answers, 0.0

    def __call__(self, share: float, rows: int) -> None:
        if (at := time.monotonic()) >= self._next:
            self._next = at + TELL_SECONDS
            self.say({"share": share, "rows": rows})

    def say(self, what: dict[str, Any]) -> None:
        """A line."""
        self._answers.write(f"{json.dumps(what)}\n")
        self._answers.flush()


def answer(request: dict[str, Any], tell: Teller) -> dict[str, Any]:
    """The answer to a request. Raises MemoryError only."""
    try:
        if "fetch" in request:
            return {"fetched": _fetch(FetchRequest.model_validate(request["fetch"]), tell)}
        if "read" in request:
            wanted = ReadRequest.model_validate(request["read"])
            return {"scan": scan(wanted.local, wanted.options, tell).model_dump(mode="json")}
        asked = PrepareRequest.model_validate(request["prepare"])
        found = prepare(asked.local, asked.options, asked.mapping, asked.splitting, asked.target, tell)
        facts = found.facts.model_dump(mode="json") if found.facts else None
        return {"facts": facts, "findings": [finding.model_dump(mode="json") for finding in found.findings]}
    except VeznaError as error:
        return {"error": error.message}
    except MemoryError:
        raise
    except Exception as error:
        traceback.print_exc()
        return {"error": f"Vezna could not read this ({type(error).__name__}: {error})."}


def _fetch(wanted: FetchRequest, tell: Teller) -> dict[str, Any]:
    try:
        hub = importlib.import_module("worker.ingest.readers.hub")
    except ModuleNotFoundError as error:
        what = f"Datasets of the hub need the package {error.name} on the workers"
        raise Unreadable(f"{what}: pip install 'vezna[hub]'.") from error
    found = hub.fetch(wanted, wanted.folder, tell)
    return {"commit": found.commit, "splits": {split: str(path) for split, path in found.splits.items()}}


def main() -> int:
    """Answer one request; the exit status."""
    confine(MAX_BYTES)
    yield_processor()
    with answer_channel() as answers:
        tell = Teller(answers)
        try:
            tell.say(answer(json.loads(sys.stdin.readline()), tell))
        except MemoryError:
            sentence = f"Reading this takes more than the {MAX_BYTES >> 30} GiB of memory that it may take."
            tell.say({"error": f"{sentence} Split the file, or shorten its longest fields."})
            return 1
    return 0


if __name__ == "__main__":
    status = main()
    sys.stderr.flush()
    os._exit(status)
