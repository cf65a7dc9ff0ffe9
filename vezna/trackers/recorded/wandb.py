"""Read runs that W&B left in the folders `offline-run-…` and `run-…` of a folder `wandb`. Its package is not needed; it
has had no reader since version 0.31.

A run whose log has no end is still running, or its process was killed: it is not imported. Of each metric that becomes
a curve the whole history is kept, of the others the last value. The numbers of the messages' fields are those of
`wandb_internal.proto`.

file       7 bytes (`:W&B`, 0xBEE1, version 0), then blocks; the first block of 32 KiB includes the 7 bytes
    fragment   CRC-32 of kind and content (4 bytes), length (2), kind (1), content
    kind       1: a whole record; 2, 3, 4: the first, a middle, the last part of one

The end of a block that is too short for a fragment is zeros. A last record that is cut off is that of a process that
was killed, or still writes. Sources: LevelDB's log format, and files that wandb 0.31 wrote.
"""

import json
import struct
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vezna.errors import NotImported
from vezna.trackers.recorded.reading import CURVES, RecordedRun, distinct, measured, selected
from vezna.trackers.study import Point

START = struct.pack("<4sHB", b":W&B", 0xBEE1, 0)
FRAGMENT = struct.Struct("<IHB")
BLOCK = 32 * 2**10
WHOLE, FIRST, MIDDLE, LAST = 1, 2, 3, 4
REMEDY = "Remove the file, or copy it again from where it was written"


def records(file: Path) -> Iterator[bytes]:
    """The complete records, in order. Raises NotImported for a file that is none of W&B or that is broken."""
    try:
        with file.open("rb") as stream:
            blocks = iter(lambda: stream.read(BLOCK), b"")
            yield from _records(file, blocks)
    except OSError as error:
        raise NotImported(str(file), "%(why)s", "Check the file", why=error.strerror or error) from error


def _records(file: Path, blocks: Iterator[bytes]) -> Iterator[bytes]:
    parts: list[bytes] = []
    for number, block in enumerate(blocks):
        place = 0
        if number == 0:
            place = len(START)
            if not START.startswith(block[:place]):
                raise NotImported(str(file), "it is no file of Weights & Biases", REMEDY)
        while place + FRAGMENT.size <= len(block):
            checksum, length, kind = FRAGMENT.unpack_from(block, place)
            if not any(block[place:]):
                return  # a file system wrote the length of a file, but not its end
            start = place + FRAGMENT.size
            end = start + length
            if end > len(block) and len(block) < BLOCK:
                return
            if (
                zlib.crc32(block[place + 6 : end]) != checksum
                or not WHOLE <= kind <= LAST
                or (kind in (MIDDLE, LAST)) != bool(parts)
            ):
                raise broken(file, number * BLOCK + place)
            parts.append(block[start:end])
            if kind in (WHOLE, LAST):
                yield b"".join(parts)
                parts.clear()
            place = end


def broken(file: Path, place: int) -> NotImported:
    """The error of a file that is broken there."""
    return NotImported(str(file), "it is broken at byte %(place)s", REMEDY, place=place)


def fields(message: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Numbers and values of a protocol buffer's fields: integers as such, others as their bytes. Raises ValueError."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        wire = key & 7
        if wire == 0:
            number, place = _varint(message, place)
            yield key >> 3, number
            continue
        if wire == 2:
            length, place = _varint(message, place)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise ValueError(f"no field is of type {wire}")
        if place + length > len(message):
            raise ValueError("a field is cut off")
        yield key >> 3, message[place : place + length]
        place += length


def _varint(message: bytes, place: int) -> tuple[int, int]:
    """A number and the place after it."""
    number = shift = 0
    while place < len(message) and shift < 70:
        byte = message[place]
        number |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return number, place
    raise ValueError("a number is cut off")


HISTORY, SUMMARY, CONFIG, RUN, EXIT = 2, 3, 5, 17, 18
"""Kinds of a Record."""
RUN_ID, RUN_PROJECT, RUN_CONFIG, RUN_NAME, RUN_START, SECONDS = 1, 3, 4, 8, 17, 1
UPDATE, REMOVE = 1, 2
"""Items of a ConfigRecord and a SummaryRecord; UPDATE of a HistoryRecord too."""
KEY, NESTED_KEY, JSON = 1, 2, 16
"""Fields of such an item."""
EXIT_CODE, NOT_COMPLETE = 1, 3
LARGEST = 2**53
"""Largest step and number of seconds: floats hold all whole numbers below."""
KEPT = {name for names in CURVES.values() for name in names}
UNREADABLE = (ValueError, TypeError, OverflowError, RecursionError)
"""What a value raises that W&B does not write: no number, one too large for a float, JSON that is nested too deep."""


@dataclass
class _Log:
    """What the log of a run says."""

    run_id: str
    name: str
    project: str = ""
    started: int = 0
    """Unix time."""
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    series: dict[str, dict[int, Point]] = field(default_factory=dict)
    """By metric and step."""
    step: int = 0
    """Step of the last row of the history, and its time."""
    seconds: float = 0.0
    status: str = ""
    """`finished`, `failed`, or nothing without an end."""


def read(place: str, names: Sequence[str] = ()) -> list[RecordedRun]:
    """The finished runs whose names match one of some patterns, or all. `place`: a folder or the file of a run, with
    `#` and a project after it to read only its runs. Raises NotImported."""
    path, _sign, project = place.partition("#")
    root = Path(path)
    files = [root] if root.is_file() else sorted(file for file in root.rglob("run-*.wandb") if file.is_file())
    logs = {file: _beginning(file) for file in files}
    logs = {file: log for file, log in logs.items() if project in ("", log.project)}
    if not logs:
        raise NotImported(place, "it has no runs of Weights & Biases", "Name the folder wandb, or one of a run in it")
    named = distinct(
        place,
        [(log.name, folder, file) for (file, log), folder in zip(logs.items(), _folders(root, logs), strict=True)],
    )
    return [_recorded(name, named[name]) for name in selected(place, list(named), names)]


def _folders(root: Path, logs: Mapping[Path, _Log]) -> Iterator[str]:
    """What tells files with runs of one name apart: the name of the folder, which has time and id of the run, or its
    place below the root and the id if that is the same too."""
    folders = {file: file.parent.name.rpartition("run-")[2] for file in logs}
    often = Counter((log.name, folders[file]) for file, log in logs.items())
    for file, log in logs.items():
        unique = often[log.name, folders[file]] == 1
        yield folders[file] if unique else f"{file.parent.relative_to(root)} {file.stem.removeprefix('run-')}"


def _beginning(file: Path) -> _Log:
    """Name and project. A file without them has the name of its id, and fails when it is selected."""
    try:
        return _log(file, beginning=True)
    except NotImported:
        return _Log(file.stem.removeprefix("run-"), file.stem.removeprefix("run-"))


def _log(file: Path, *, beginning: bool = False) -> _Log:
    """A file, or only until the record that names the run. Raises NotImported."""
    log = _Log(file.stem.removeprefix("run-"), file.stem.removeprefix("run-"))
    try:
        for record in records(file):
            for kind, content in fields(record):
                if isinstance(content, bytes):
                    _add(log, kind, content)
                if kind == RUN and beginning:
                    return log
    except UNREADABLE as error:
        raise _unreadable(file, error) from error
    return log


def _unreadable(file: Path, error: Exception) -> NotImported:
    return NotImported(str(file), "it is broken (%(why)s)", REMEDY, why=str(error)[:200])


def _add(log: _Log, kind: int, content: bytes) -> None:
    if kind == RUN:
        _add_run(log, content)
    elif kind == CONFIG:
        _update(log.config, content)
    elif kind == SUMMARY:
        _update(log.summary, content)
    elif kind == HISTORY:
        _add_row(log, dict(_items(content)))
    elif kind == EXIT:
        end = dict(fields(content))
        log.status = "failed" if end.get(EXIT_CODE) else "" if end.get(NOT_COMPLETE) else "finished"


def _add_row(log: _Log, row: Mapping[str, Any]) -> None:
    log.step = int(_position(row, "_step", log.step + 1))
    log.seconds = _position(row, "_runtime", log.seconds)
    for metric, value in row.items():
        if (number := measured(value)) is not None and not metric.startswith("_"):
            points = log.series.setdefault(metric, {})
            if metric not in KEPT:
                if any(step > log.step for step in points):
                    continue  # the last one by step counts
                points.clear()
            points[log.step] = Point(metric, number, log.step, log.seconds)


def _position(row: Mapping[str, Any], name: str, default: float) -> float:
    value = measured(row.get(name, default))
    if value is None or not 0 <= value < LARGEST:
        raise ValueError(f"{name} is {str(row[name])[:40]}")
    return value


def _add_run(log: _Log, content: bytes) -> None:
    for number, value in fields(content):
        if not isinstance(value, bytes):
            continue
        if number == RUN_ID:
            log.run_id = value.decode()
        elif number == RUN_NAME:
            log.name = value.decode() or log.name
        elif number == RUN_PROJECT:
            log.project = value.decode()
        elif number == RUN_CONFIG:
            _update(log.config, value)
        elif number == RUN_START:
            log.started = int(dict(fields(value)).get(SECONDS, 0))


def _update(values: dict[str, Any], content: bytes) -> None:
    for name, _value in _items(content, REMOVE):
        for old in [old for old in values if old == name or old.startswith(f"{name}.")]:
            del values[old]
    values |= _items(content)


def _items(content: bytes, kind: int = UPDATE) -> Iterator[tuple[str, Any]]:
    """Names and values of items, without those of W&B's own; what is nested has a name with dots."""
    for number, item in fields(content):
        if number != kind or not isinstance(item, bytes):
            continue
        names, value = [], None
        for part, text in fields(item):
            if isinstance(text, bytes) and part in (KEY, NESTED_KEY):
                names.append(text.decode())
            elif isinstance(text, bytes) and part == JSON:
                value = json.loads(text)
        yield from _flat(".".join(names), value)


def _flat(name: str, value: Any) -> Iterable[tuple[str, Any]]:
    if name == "_wandb" or name.startswith("_wandb."):
        return
    if isinstance(value, dict) and "_type" not in value:  # that of a table, an image, …
        for inner in value:
            yield from _flat(f"{name}.{inner}", value[inner])
    else:
        yield name, value


def _recorded(name: str, file: Path) -> RecordedRun:
    """Raises NotImported for a run that has not finished, and for a broken file."""
    log = _log(file)
    if log.status != "finished":
        what = "its status is %(status)s" if log.status else "it is still running, or its process was killed"
        raise NotImported(name, what, "Select runs that have finished", status=log.status)
    try:
        for metric, value in log.summary.items():
            if metric not in log.series and (number := measured(value)) is not None and not metric.startswith("_"):
                log.series[metric] = {log.step: Point(metric, number, log.step, log.seconds)}
        parameters = {key: value if isinstance(value, str) else json.dumps(value) for key, value in log.config.items()}
    except UNREADABLE as error:
        raise _unreadable(file, error) from error
    return RecordedRun(
        f"wandb {log.project} {log.run_id} {log.started}",
        name,
        parameters,
        {metric: [points[step] for step in sorted(points)] for metric, points in log.series.items()},
    )
