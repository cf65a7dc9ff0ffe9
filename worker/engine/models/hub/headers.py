"""Headers of safetensors files, which describe every tensor in the file. No weights are read, and a header's own claims
are checked before anything is allocated by them."""

import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from app.domain.failures import FailureCode, RunFailed
from app.domain.messages import _

MOST_BYTES = 100_000_000
"""Bytes of a header; safetensors accepts no more."""
_FIRST = 100_000
"""Bytes that are read at once: nearly every header is shorter."""
_AT_ONCE = 8
_BITS = {
    8: ("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"),
    16: ("U16", "I16", "F16", "BF16"),
    32: ("U32", "I32", "F32"),
    64: ("U64", "I64", "F64", "C64"),
    6: ("F6_E2M3", "F6_E3M2"),
    4: ("F4",),
}
"""Data types by the bits of an element."""
_BITS_OF = {name: bits for bits, names in _BITS.items() for name in names}


class WeightFile(NamedTuple):
    """A file, wherever it is."""

    name: str
    size: int
    read: Callable[[int, int], bytes]
    """The bytes from a place on, of a length."""


class _Invalid(Exception):
    """Its message says what is wrong with a header."""


def on_disk(path: Path) -> WeightFile:
    def read(start: int, length: int) -> bytes:
        with path.open("rb") as file:
            file.seek(start)
            return file.read(length)

    return WeightFile(path.name, path.stat().st_size, read)


def check_headers(files: Iterable[WeightFile]) -> None:
    """Check the header of each weight file against the file's size, and each tensor's shape against its bytes.

    Raises `RunFailed(model_unavailable)` for an invalid file, and for a tensor that two files have; and what reading a
    file raises.
    """
    places: dict[str, str] = {}
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for file, names in pool.map(lambda file: (file.name, _tensors(file)), files):
            for name in names:
                if name in places:
                    text = _(
                        "%(first)s and %(second)s both contain the tensor %(tensor)r. Save the model again with "
                        "save_pretrained.",
                        first=places[name],
                        second=file,
                        tensor=name,
                    )
                    raise RunFailed(FailureCode.MODEL_UNAVAILABLE, text)
                places[name] = file


def _tensors(file: WeightFile) -> list[str]:
    try:
        return _checked(file)
    except (_Invalid, ValueError, RecursionError) as error:
        why = error.args[0] if isinstance(error, _Invalid) else _("its header is not JSON")
        text = _(
            "%(name)s is no valid safetensors file (%(why)s): it is damaged or truncated. Copy it again, or save "
            "the model again with save_pretrained.",
            name=file.name,
            why=why,
        )
        raise RunFailed(FailureCode.MODEL_UNAVAILABLE, text) from error


def _checked(file: WeightFile) -> list[str]:
    start = file.read(0, min(file.size, _FIRST))
    length = int.from_bytes(start[:8], "little")
    if len(start) < 8 or length > min(file.size - 8, MOST_BYTES):
        raise _Invalid(_("its header has %(length)s bytes, the file %(size)s", length=length, size=file.size))
    text = start[8 : 8 + length]
    if len(text) < length:
        text += file.read(8 + len(text), length - len(text))
    header = json.loads(text, object_pairs_hook=_without_repetition)
    if not isinstance(header, dict):
        raise _Invalid(_("its header is not JSON"))
    header.pop("__metadata__", None)
    room, end = file.size - 8 - length, 0
    spans = sorted((*_span(name, tensor, room), name) for name, tensor in header.items())
    for first, last, name in spans:
        if first != end:
            raise _Invalid(_("the bytes of tensor %(name)r overlap others, or leave a gap", name=name[:100]))
        end = last
    if end != room:
        raise _Invalid(_("its tensors have %(length)s bytes, the file %(size)s", length=end, size=room))
    return list(header)


def _span(name: str, tensor: Any, room: int) -> tuple[int, int]:
    """Where a tensor's bytes are, of those behind the header."""
    try:
        bits, shape, (first, last) = _BITS_OF.get(tensor["dtype"]), tensor["shape"], tensor["data_offsets"]
    except (KeyError, TypeError, ValueError):
        raise _Invalid(_("tensor %(name)r has no data type, shape or place", name=name[:100])) from None
    if bits is None:
        raise _Invalid(_("tensor %(name)r has an unknown data type", name=name[:100]))
    numbers = [*shape, first, last] if isinstance(shape, list) else [None]
    if not all(type(number) is int and number >= 0 for number in numbers) or not first <= last <= room:
        raise _Invalid(_("tensor %(name)r lies outside of the file", name=name[:100]))
    # a dimension beyond the file's own bits fits no tensor, not even an empty one
    if any(size > room * 8 for size in shape) or bits * prod(shape) != (last - first) * 8:
        raise _Invalid(_("the shape of tensor %(name)r does not fit its bytes", name=name[:100]))
    return first, last


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _Invalid(_("its header names a tensor twice"))
    return found
