"""What a script reports, in a file that is only appended to, until the server has it.

Each line is a JSON object with its `kind`:

    opening     a script began: study, arm, seed, key, facts. One with another key begins another run
    step, evaluation, message
    batch       the sender took the oldest `records` of those above as batch `number`, and then sent it
    end         the outcome, with the score of each test item
    closed      the server has the end, or will never take it

A line is written by a single call, without waiting for the disk: what a process has written outlives its death, if not
a power cut.
"""

import errno
import json
import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any
from weakref import WeakSet

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows has none: there nothing keeps two processes from one file
    fcntl = None  # type: ignore[assignment]

REPORTS = ("step", "evaluation", "message")


_open: WeakSet["Buffer"] = WeakSet()


def _forget() -> None:
    """A process that is forked off, as a worker of a DataLoader, keeps no file locked."""
    for buffer in list(_open):
        buffer.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


class InUse(Exception):
    """Another process, or another run of this one, writes to the file."""


class Closed(OSError):
    """The buffer was closed: another file may have its number now."""


@dataclass(frozen=True)
class Record:
    """A line of the file."""

    kind: str
    line: str

    @property
    def values(self) -> dict[str, Any]:
        """Without its kind."""
        values = json.loads(self.line)
        values.pop("kind")
        return dict(values)


class Buffer:
    """The file of one run. Any thread may append; the sender's thread takes."""

    def __init__(self, path: Path) -> None:
        """Open or create it. Raises OSError, and InUse if it is open already."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file: int | None = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            if fcntl is not None:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._file)
            raise InUse(str(path)) from error
        self._lock = Lock()
        self.opening: dict[str, Any] | None = None
        """The last one."""
        self.end: dict[str, Any] | None = None
        self.closed = False
        self._pending: deque[Record] = deque()
        self._batches: list[tuple[int, int]] = []
        """Number and length of the batches that were sent and may not have arrived."""
        self._load()
        self._earlier = len(self._pending)
        _open.add(self)

    def append(self, kind: str, values: dict[str, Any]) -> None:
        """Write a line. Raises OSError, and ValueError or TypeError for what JSON has no form for."""
        record = _record(kind, values)
        with self._lock:
            self._write(record)
            self._read(record)

    def begin(self, opening: dict[str, Any]) -> None:
        """Write that a run is opened. One with another key leaves behind what was reported with the last key, but for
        what this process reported."""
        with self._lock:
            ours, end = list(islice(self._pending, self._earlier, None)), self.end
            another = self.opening is not None and self.opening["key"] != opening["key"]
            again = [_record("opening", opening)]
            if another:
                self._earlier = 0
                again += ours + ([] if end is None else [_record("end", end)])
            for record in again:
                self._write(record)
                self._read(record)

    def arrived(self, next_batch: int) -> None:
        """Drop what the server has: the batches before the one that it expects."""
        with self._lock:
            while self._batches and self._batches[0][0] < next_batch:
                _number, records = self._batches.pop(0)
                for _ in range(min(records, len(self._pending))):
                    self._pending.popleft()
                self._earlier = max(self._earlier - records, 0)
            self._batches = [one for one in self._batches if one[0] == next_batch]

    def oldest(self, most: int) -> list[Record]:
        """At most so many of the reports that have not arrived."""
        with self._lock:
            return list(islice(self._pending, most))

    def sealed(self, number: int) -> int | None:
        """How many records the batch of that number has, if it was sent: the server may have it, though its answer was
        lost, so exactly these are sent again."""
        with self._lock:
            return next((records for sent, records in self._batches if sent == number), None)

    def seal(self, number: int, records: int) -> None:
        """Write that so many of the oldest reports are about to be sent as a batch."""
        self.append("batch", {"number": number, "records": records})

    @property
    def waiting(self) -> int:
        """Reports that have not arrived."""
        return len(self._pending)

    def close(self) -> None:
        """Let others open the file. A thread that still appends gets Closed."""
        with self._lock:
            file, self._file = self._file, None
            if file is None:
                return
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_UN)
            os.close(file)

    def forget(self) -> None:
        """Close the file in a process that was forked off; the first one keeps its lock."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    def seconds_before(self, step: int) -> float:
        """Seconds of training at the latest report of this run, by any process, that is of an earlier step; 0 without
        one. Raises OSError."""
        latest, seconds, key = 0, 0.0, None
        with self._lock:
            for record in self._lines():
                values = record.values
                if record.kind == "opening" and values.get("key") != key:
                    latest, seconds, key = 0, 0.0, values.get("key")
                elif record.kind == "step" and latest <= values.get("step", step) < step:
                    latest, seconds = values["step"], values.get("seconds", 0.0)
        return float(seconds)

    def _write(self, record: Record) -> None:
        if self._file is None:
            raise Closed(errno.EBADF, "the file is closed", str(self.path))
        line = f"{record.line}\n".encode()
        if (written := os.write(self._file, line)) < len(line):  # the disk is full
            os.ftruncate(self._file, os.fstat(self._file).st_size - written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))

    def _load(self) -> None:
        for record in self._lines():
            self._read(record)

    def _lines(self) -> Iterator[Record]:
        """The whole lines; the last one is cut off where the disk was full, or the power went."""
        text = self.path.read_bytes()
        if text and not text.endswith(b"\n") and self._file is not None:
            os.write(self._file, b"\n")
        for line in text.decode(errors="replace").splitlines():
            try:
                yield Record(json.loads(line)["kind"], line)
            except (ValueError, KeyError, TypeError):
                continue

    def _read(self, record: Record) -> None:
        if record.kind in REPORTS:
            self._pending.append(record)
        elif record.kind == "opening":
            if self.opening is not None and self.opening["key"] != record.values["key"]:
                self._pending.clear()
                self._batches, self.end, self.closed = [], None, False
            self.opening = record.values
        elif record.kind == "batch":
            values = record.values
            self._batches = [one for one in self._batches if one[0] < values["number"]]
            self._batches.append((values["number"], values["records"]))
        elif record.kind == "end":
            self.end = record.values
        elif record.kind == "closed":
            self.closed = True


def has_ended(path: Path) -> bool:
    """Whether the last run in a file has ended, without opening it for writing."""
    kinds = [line.partition('","')[0].partition('"}')[0] for line in path.read_text(errors="replace").splitlines()]
    ended = [kind for kind in kinds if kind in ('{"kind":"opening', '{"kind":"end')]
    return bool(ended) and ended[-1] == '{"kind":"end'


def _record(kind: str, values: dict[str, Any]) -> Record:
    return Record(kind, json.dumps({"kind": kind, **values}, separators=(",", ":"), allow_nan=False))
