"""The encoding of a text file: by its first bytes, by trying UTF-8 on all of it, else by what its bytes look like."""

import codecs
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from charset_normalizer import from_bytes

from worker.ingest.readers.batches import Source, Unreadable

CHUNK = 1 << 20
_SAMPLE = 1 << 18
_HALVES = re.compile("[\ud800-\udfff]")
"""Of characters; some decoders make them."""
_HEAD = 4096
_MOSTLY, _SELDOM = 0.7, 0.1
_WIDE = {"utf-32-le": (1, 2, 3), "utf-32-be": (0, 1, 2), "utf-16-le": (1, 3), "utf-16-be": (0, 2)}
"""Which of four bytes are zero."""
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class Encoding(NamedTuple):
    """How a file's bytes are letters."""

    name: str
    guessed: bool = False
    """By what the bytes look like: it may be another."""


def encoding_of(source: Source) -> Encoding:
    """Reads the whole file. Raises Unreadable for bytes that no text has."""
    with source.path.open("rb") as file:
        head = file.read(_HEAD)
    name = source.options.encoding or wide(head)
    if name:
        _decoded(source, name)
        return Encoding(name)
    bad = _first_that_is_not_utf8(source)
    return Encoding("utf-8") if bad is None else Encoding(_looks_like(source.path, bad), guessed=True)


@contextmanager
def reading(source: Source, encoding: str) -> Iterator[tuple[io.TextIOWrapper, BinaryIO]]:
    """A file as text, lines as they end in it, and the same file as bytes, to see how far it is read. Decoding errors
    become Unreadable."""
    with source.path.open("rb") as raw, io.TextIOWrapper(raw, encoding=encoding, newline="") as text:
        try:
            yield text, raw
        except UnicodeError as error:
            raise Unreadable(_undecodable(source.name, encoding, error)) from error


def wide(head: bytes) -> str:
    """The encoding that a file's beginning is marked with, or one that takes two or four bytes for a letter without a
    mark: in Latin text most of them are zero. Else empty."""
    if marked := next((name for mark, name in _MARKS if head.startswith(mark)), ""):
        return marked
    quarter = len(head) // 4
    if quarter < 1:
        return ""
    zeros = [head[place : quarter * 4 : 4].count(0) / quarter for place in range(4)]
    full, empty = [share > _MOSTLY for share in zeros], [share < _SELDOM for share in zeros]
    for name, zero in _WIDE.items():
        if all(full[place] if place in zero else empty[place] for place in range(4)):
            return name
    return ""


def _first_that_is_not_utf8(source: Source) -> int | None:
    """Place of the first byte that is not of UTF-8. Raises Unreadable for a NUL, which only binary files have."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    before, lines = 0, 1
    with source.path.open("rb") as file:
        while chunk := file.read(CHUNK):
            if (place := chunk.find(0)) >= 0:
                line = lines + chunk[:place].count(b"\n")
                raise Unreadable(
                    f"{source.name}: line {line} has a NUL byte, which no text has: the file is damaged, or is no text."
                )
            pending = len(decoder.getstate()[0])
            try:
                decoder.decode(chunk)
            except UnicodeDecodeError as error:
                _no_nul_behind(source, before, lines)
                return before - pending + error.start
            before += len(chunk)
            lines += chunk.count(b"\n")
        try:
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return before - 1
    return None


def _no_nul_behind(source: Source, before: int, lines: int) -> None:
    with source.path.open("rb") as file:
        file.seek(before)
        while chunk := file.read(CHUNK):
            if (place := chunk.find(0)) >= 0:
                line = lines + chunk[:place].count(b"\n")
                raise Unreadable(
                    f"{source.name}: line {line} has a NUL byte, which no text has: the file is damaged, or is no text."
                )
            lines += chunk.count(b"\n")


def _looks_like(path: Path, bad: int) -> str:
    with path.open("rb") as file:
        file.seek(max(0, bad - _SAMPLE // 2))
        found = from_bytes(file.read(_SAMPLE)).best()
    return found.encoding if found is not None and found.encoding not in ("ascii", "utf_8") else "cp1252"


def _decoded(source: Source, name: str) -> None:
    """Decode the whole file; raise Unreadable if it is not valid in this encoding."""
    lines = 1
    decoder = codecs.getincrementaldecoder(name)()
    with source.path.open("rb") as file:
        try:
            while chunk := file.read(CHUNK):
                text = decoder.decode(chunk)
                if (place := text.find("\0")) >= 0:
                    line = lines + text.count("\n", 0, place)
                    raise Unreadable(
                        f"{source.name}: line {line} has a NUL character, which no text has: the file is damaged, "
                        f"or is not {name}."
                    )
                if half := _HALVES.search(text):
                    line = lines + text.count("\n", 0, half.start())
                    raise Unreadable(
                        f"{source.name}: line {line} has half of a character (\\ud800 to \\udfff), which is no text: "
                        f"the file is damaged, or is not {name}."
                    )
                lines += text.count("\n")
            decoder.decode(b"", final=True)
        except UnicodeError as error:
            raise Unreadable(f"{source.name}: from line {lines} on, {_undecodable('it', name, error)}") from error


def _undecodable(name: str, encoding: str, error: UnicodeError) -> str:
    if isinstance(error, UnicodeDecodeError):
        what = f"byte 0x{error.object[error.start]:02x}" if error.start < len(error.object) else "its end"
        return f"{name} is not text in {encoding} ({what}): say another encoding, or save the file as UTF-8."
    return f"{name} is not text in {encoding}: say another encoding, or save the file as UTF-8."
