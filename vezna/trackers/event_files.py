"""Read the event files of TensorBoard: scalars and hyperparameters of each folder that has some.

A file is a sequence of records: length (8 bytes), its checksum (4), a protocol buffer, its checksum (4), as
TensorFlow's record writer makes them. A last record that is cut off is that of a writer that was killed, or still
writes.
"""

import struct
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from vezna.errors import NotImported, TrackerMissing
from vezna.trackers.recorded.reading import RecordedRun, selected
from vezna.trackers.study import Point

LARGEST = 64 * 2**20
"""Bytes of a record; a longer one is no record."""
REMEDY = "Remove the file, or copy it again from where it was written"


def recorded_below(folder: Path, names: Sequence[str] = ()) -> list[RecordedRun]:
    """A run for each folder with event files, or for those whose names match one of some patterns. Raises
    TrackerMissing and NotImported."""
    try:
        events = import_module("tensorboardX.proto.event_pb2")
        plugin = import_module("tensorboardX.proto.plugin_hparams_pb2").HParamsPluginData
        checksum = import_module("tensorboardX.crc32c").crc32c
    except ImportError as error:
        raise TrackerMissing("tensorboardX") from error
    places = sorted({file.parent for file in folder.rglob("*tfevents*") if file.is_file()})
    if not places:
        raise NotImported(str(folder), "it has no event files", "Name the folder that TensorBoard is given")
    named = {str(place.relative_to(folder)) if place != folder else folder.resolve().name: place for place in places}
    runs = []
    for name in selected(str(folder), list(named), names):
        place = named[name]
        files = sorted(place.glob("*tfevents*"))
        read = [event for file in files for event in _events(file, events.Event, checksum)]
        runs.append(_run(f"tensorboard {place.resolve()}", name, read, plugin))
    return runs


def _events(file: Path, kind: Any, checksum: Any) -> Iterator[Any]:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise NotImported(str(file), "%(why)s", "Check the file", why=error.strerror or error) from error
    place = 0
    while place + 12 <= len(data):
        (length,) = struct.unpack_from("<Q", data, place)
        if not _intact(data, place, 8, checksum) or length > LARGEST:
            raise _broken(file, place)
        if place + length + 16 > len(data):
            return
        if not _intact(data, place + 12, length, checksum):
            raise _broken(file, place)
        try:
            yield kind.FromString(data[place + 12 : place + 12 + length])
        except Exception as error:  # of protobuf, which this module does not import
            raise _broken(file, place) from error
        place += length + 16


def _intact(data: bytes, start: int, length: int, checksum: Any) -> bool:
    """The four bytes after some have their masked CRC-32C."""
    crc = checksum(data[start : start + length])
    masked = (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
    return bool(struct.unpack_from("<I", data, start + length)[0] == masked)


def _broken(file: Path, place: int) -> NotImported:
    return NotImported(
        str(file),
        "it is broken at byte %(place)s",
        REMEDY,
        place=place,
    )


def _run(key: str, name: str, events: list[Any], plugin: Any) -> RecordedRun:
    series: dict[str, dict[int, Point]] = {}
    parameters: dict[str, str] = {}
    began = min((event.wall_time for event in events), default=0.0)
    for event in events:
        for value in event.summary.value:
            content = value.metadata.plugin_data
            if content.plugin_name == "hparams":
                try:
                    parameters |= _parameters(plugin.FromString(content.content))
                except Exception as error:  # of protobuf, as above
                    raise NotImported(name, "its hyperparameters are broken", REMEDY) from error
            elif (number := _number(value)) is not None:
                series.setdefault(value.tag, {})[event.step] = Point(
                    value.tag, number, event.step, event.wall_time - began
                )
    return RecordedRun(
        key, name, parameters, {tag: [points[step] for step in sorted(points)] for tag, points in series.items()}
    )


def _number(value: Any) -> float | None:
    """A scalar, as older and newer writers store it."""
    if value.HasField("simple_value"):
        return float(value.simple_value)
    tensor = value.tensor
    if tensor.tensor_shape.dim or value.metadata.plugin_data.plugin_name not in ("scalars", ""):
        return None
    if tensor.float_val:
        return float(tensor.float_val[0])
    formats = {1: "<f", 2: "<d"}  # DT_FLOAT, DT_DOUBLE
    content, form = tensor.tensor_content, formats.get(tensor.dtype)
    return float(struct.unpack(form, content)[0]) if form and len(content) == struct.calcsize(form) else None


def _parameters(content: Any) -> dict[str, str]:
    values = content.session_start_info.hparams
    found = {}
    for name in values:
        kind = values[name].WhichOneof("kind")
        value = getattr(values[name], kind) if kind else ""
        found[name] = f"{value:g}" if isinstance(value, float) else str(value)
    return found
