"""Read the log of a W&B run, `run-ID.wandb`: LevelDB's log format with protocol buffers.

    file       7 bytes (`:W&B`, 0xBEE1, version 0), then blocks; the first block of 32 KiB includes the 7 bytes
    fragment   CRC-32 of kind and content (4 bytes), length (2), kind (1), content
    kind       1: a whole record; 2, 3, 4: the first, a middle, the last part of one

The end of a block that is too short for a fragment is zeros. A last record that is cut off is that of a process that
was killed, or still writes. Sources: LevelDB's log format, and files that wandb 0.31 wrote.
"""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from vezna.errors import NotImported

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
