"""The protocol between supervisor and trainer, apart from the job and the reports (`app.domain.runs.job`).

The line that hands a job over and the channel for reports. Imports almost nothing, so that a trainer listens as soon
as it has started.
"""

import json
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from app.domain.models.hub_access import HubAccess


class Handover(BaseModel):
    """The first line on a trainer's stdin: the paths of its attempt.

    Paths are absolute: a trainer that waits for a job has no directory of its own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    job: Path
    """A JSON file: `app.domain.runs.job.TrainJob`."""
    directory: Path
    """An empty working directory, so that a hub id is never mistaken for a local directory of that name."""
    stderr: Path
    """Receives the output of libraries, and tracebacks."""
    lease_seconds: float
    """The trainer exits if no `alive` arrives within this time."""
    hub: HubAccess | None = None
    """For a base model that opens to the owner's token only. The job file has no secret."""


class Position(BaseModel):
    """The line on the stdin of a further process of a run on several devices."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    job: Path
    rank: int
    """Rank of this process."""
    world: int
    """Number of processes."""
    hub: HubAccess | None = None


PIECE_BYTES = 1 << 20
PIECE, END = b"+", b"="
"""A report of more than `PIECE_BYTES` travels as lines that begin with `PIECE`, and a line `END`. A report itself is a
JSON object and begins with a brace."""


def pieces(report: bytes) -> Iterator[bytes]:
    """The lines of a report, without their ends."""
    if len(report) <= PIECE_BYTES:
        yield report
        return
    for start in range(0, len(report), PIECE_BYTES):
        yield PIECE + report[start : start + PIECE_BYTES]
    yield END


class Channel:
    """The real stdout, reserved for reports. File descriptor 1 is redirected to stderr, so that a library's `print` is
    never parsed as a report."""

    def __init__(self) -> None:
        sys.stdout.flush()
        self._descriptor = os.dup(1)
        os.dup2(2, 1)
        self._lock = threading.Lock()

    def send(self, message: BaseModel) -> None:
        """Write one line, or several for a long message. Raises `ValueError` for NaN, which is not JSON."""
        report = json.dumps(message.model_dump(mode="json"), allow_nan=False, ensure_ascii=False)
        left = b"".join(line + b"\n" for line in pieces(report.encode()))
        with self._lock:
            while left:
                left = left[os.write(self._descriptor, left) :]
