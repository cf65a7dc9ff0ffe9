"""JSON: an object a line (JSONL), or one list of objects, which is read element by element."""

import io
import json
from collections.abc import Iterator
from typing import Any, cast

import ijson

from worker.reading.batches import BATCH_CHARACTERS, BATCH_ROWS, MOST_FIELD, Batch, Opened, Source, Unreadable
from worker.reading.text import encoding_of, reading

_NAMED = {dict: "an object", list: "a list", str: "a text", bool: "a truth value", type(None): "null"}


def open_lines(source: Source) -> Opened:
    """A file with an object on each line."""
    encoding = encoding_of(source)
    return Opened("jsonl", _lines(source, encoding.name), encoding.name, guessed_encoding=encoding.guessed)


def open_list(source: Source) -> Opened:
    """A file with one list of objects."""
    encoding = encoding_of(source)
    return Opened("json", _elements(source, encoding.name), encoding.name, guessed_encoding=encoding.guessed)


def _lines(source: Source, encoding: str) -> Iterator[Batch]:
    gathered = _Gathered(source)
    with reading(source, encoding) as (text, raw):
        number = 0
        while line := text.readline(MOST_FIELD + 1):
            number += 1
            if len(line) > MOST_FIELD:
                long = f"line {number} is longer than {MOST_FIELD:,} characters"
                raise Unreadable(f"{source.name}: {long}: each row needs a line of its own.")
            if line.strip():
                yield from gathered.add(number, _object(source.name, number, line), len(line), raw.tell())
    yield from gathered.rest()


def _object(name: str, number: int, line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except json.JSONDecodeError as error:
        what = f"{error.msg[:1].lower()}{error.msg[1:]}, at character {error.colno}"
        remedy = "each line must hold one whole object"
        if number == 1 and line.strip() in ("{", "["):
            remedy = "Vezna reads one object a line, or one list of objects [{…}, …] in a file named .json"
        raise Unreadable(f"{name}: line {number} is no JSON ({what}): {remedy}.") from error
    except RecursionError:
        raise Unreadable(f"{name}: line {number} is nested too deeply to be read.") from None
    except ValueError:  # Python reads no number of more digits
        raise Unreadable(f"{name}: line {number} has a number of thousands of digits: write it as a text.") from None
    return _checked(name, f"line {number}", found)


def _checked(name: str, where: str, found: object) -> dict[str, Any]:
    if not isinstance(found, dict):
        what = _NAMED.get(type(found), "a number")
        raise Unreadable(f'{name}: {where} holds {what}, not an object such as {{"text": …}}.')
    if not found:
        raise Unreadable(f"{name}: {where} holds an object without fields: leave it out.")
    try:
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise Unreadable(f"{name}: {where} has half of a character (\\ud800 to \\udfff), which is no text.") from None
    return found


def _elements(source: Source, encoding: str) -> Iterator[Batch]:
    gathered = _Gathered(source)
    number = 0
    with source.path.open("rb") as raw:
        bytes_ = raw if encoding == "utf-8" else _Recoded(raw, encoding)
        try:
            for number, found in enumerate(ijson.items(bytes_, "item", use_float=True), start=1):
                yield from gathered.add(number, _checked(source.name, f"element {number}", found), 100, raw.tell())
        except ijson.JSONError as error:
            what = str(error).strip().split("\n")[0]
            where = f"after element {number}" if number else "at its beginning"
            raise Unreadable(f"{source.name} is no whole JSON: {where}, {what}.") from error
    yield from gathered.rest()


class _Recoded:
    """A file of another encoding as UTF-8. No `RawIOBase`: ijson would fill a buffer of its own (`readinto`), which
    has no room for letters that take more bytes here."""

    def __init__(self, raw: io.BufferedReader, encoding: str) -> None:
        self._text = io.TextIOWrapper(cast(Any, raw), encoding=encoding)

    def read(self, size: int) -> bytes:
        """Some bytes; ijson asks for no exact number."""
        return self._text.read(size).encode()


class _Gathered:
    """Objects that become batches; an object may lack what others have."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._rows: list[dict[str, Any]] = []
        self._numbers: list[int] = []
        self._characters, self._count = 0, 0

    def add(self, number: int, row: dict[str, Any], characters: int, place: int) -> Iterator[Batch]:
        """One more."""
        self._rows.append(row)
        self._numbers.append(number)
        self._characters += characters
        if len(self._rows) >= BATCH_ROWS or self._characters >= BATCH_CHARACTERS:
            self._count += len(self._rows)
            self._source.tick(place, self._count)
            yield from self.rest()

    def rest(self) -> Iterator[Batch]:
        """What is left."""
        if self._rows:
            names = dict.fromkeys(name for row in self._rows for name in row)
            yield Batch({name: [row.get(name) for row in self._rows] for name in names}, self._numbers)
        self._rows, self._numbers, self._characters = [], [], 0
