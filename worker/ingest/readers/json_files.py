"""JSON: an object a line (JSONL), or one list of objects, alone or in an object, which is read element by element."""

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, NamedTuple, cast

import ijson

from app.domain.data.uploads import MOST_COLUMNS
from worker.ingest.readers.batches import BATCH_CHARACTERS, BATCH_ROWS, MOST_FIELD, Batch, Opened, Source, Unreadable
from worker.ingest.readers.json_events import MOST_DEPTH, elements, shape_of, too_deep
from worker.ingest.readers.text import CHUNK, encoding_of, reading


class _Row(NamedTuple):
    """An object that was read."""

    fields: dict[str, Any]
    bytes: int


_NAMED = {dict: "an object", list: "a list", str: "a text", bool: "a truth value", type(None): "null"}


def open_lines(source: Source) -> Opened:
    """A file with an object on each line."""
    encoding = encoding_of(source)
    return Opened("jsonl", _lines(source, encoding.name), encoding.name, guessed_encoding=encoding.guessed)


def open_json(source: Source) -> Opened:
    """A file with one list of objects, or with one object that has such a list; or lines under the name of JSON."""
    encoding = encoding_of(source)
    within = None
    if _begins_with_object(source, encoding.name):
        with _bytes(source, encoding.name) as (bytes_, _raw):
            shape = shape_of(source, bytes_)
        if shape.lines:
            return open_lines(source)
        within = shape.within
    batches = _elements(source, encoding.name, within)
    return Opened("json", batches, encoding.name, guessed_encoding=encoding.guessed)


def _begins_with_object(source: Source, encoding: str) -> bool:
    with reading(source, encoding) as (text, _raw):
        while block := text.read(CHUNK):
            if block.strip():
                return block.lstrip().startswith("{")
    return False


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
                yield from gathered.add(f"line {number}", number, _object(source.name, number, line), raw.tell())
    yield from gathered.rest()


def _object(name: str, number: int, line: str) -> _Row:
    try:
        found = json.loads(line)
    except json.JSONDecodeError as error:
        what = f"{error.msg[:1].lower()}{error.msg[1:]}, at character {error.colno}"
        remedy = "each line must hold one whole object"
        if number == 1 and line.strip() in ("{", "["):
            remedy = "Vezna reads one object a line, or a list of objects [{…}, …] in a file named .json"
        raise Unreadable(f"{name}: line {number} is no JSON ({what}): {remedy}.") from error
    except RecursionError:
        raise Unreadable(too_deep(name, f"line {number}")) from None
    except ValueError:  # Python reads no number of more digits
        raise Unreadable(f"{name}: line {number} has a number of thousands of digits: write it as a text.") from None
    return _checked(name, f"line {number}", found)


def _checked(name: str, where: str, found: object) -> _Row:
    if not isinstance(found, dict):
        what = _NAMED.get(type(found), "a number")
        raise Unreadable(f'{name}: {where} holds {what}, not an object such as {{"text": …}}.')
    if not found:
        raise Unreadable(f"{name}: {where} holds an object without fields: leave it out.")
    if _deeper_than(MOST_DEPTH, found):
        raise Unreadable(too_deep(name, where))
    try:
        characters = len(json.dumps(found, ensure_ascii=False).encode())
    except UnicodeEncodeError:
        raise Unreadable(f"{name}: {where} has half of a character (\\ud800 to \\udfff), which is no text.") from None
    return _Row(found, characters)


def _deeper_than(most: int, found: Any) -> bool:
    """Whether objects and lists are within each other so often; told without going down into them by calls."""
    level = [found]
    for _ in range(most):
        level = [
            inner
            for one in level
            for inner in (one.values() if isinstance(one, dict) else one)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True


@contextmanager
def _bytes(source: Source, encoding: str) -> Iterator[tuple[Any, BinaryIO]]:
    """A file as UTF-8, and as it is, to see how far it is read."""
    with source.path.open("rb") as raw:
        yield raw if encoding == "utf-8" else _Recoded(raw, encoding), raw


def _elements(source: Source, encoding: str, within: str | None) -> Iterator[Batch]:
    gathered = _Gathered(source)
    number = 0
    with _bytes(source, encoding) as (bytes_, raw):
        try:
            for number, found in enumerate(elements(source, bytes_, within), start=1):
                where = f"element {number}"
                yield from gathered.add(where, number, _checked(source.name, where, found), raw.tell())
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
        self._fields: set[str] = set()

    def add(self, where: str, number: int, row: _Row, place: int) -> Iterator[Batch]:
        """One more. Raises Unreadable once the rows have too many different fields."""
        self._fields.update(row.fields)
        if len(self._fields) > MOST_COLUMNS:
            many = (
                f"by {where} there are {len(self._fields):,} different fields, and Vezna reads at most {MOST_COLUMNS}"
            )
            remedy = "if names of fields are data, write them as values; else leave some fields out"
            raise Unreadable(f"{self._source.name}: {many}: {remedy}.")
        self._rows.append(row.fields)
        self._numbers.append(number)
        self._characters += row.bytes
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
