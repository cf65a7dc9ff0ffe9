"""Reads JSON: one object per line (JSONL), or a list of objects, alone or in an object, element by element.

A file that begins with an object contains a sequence of objects (JSONL under another name), or one object with its rows
in a list, `{"data": [{…}, …]}`. ijson's own `items` keeps the path to each value at each depth: gigabytes for 100,000
nested lists.
"""

import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO, NamedTuple, cast

import ijson

from app.domain.data.uploads import MOST_COLUMNS
from app.domain.errors import first_line
from app.domain.messages import Message, _
from worker.ingest.readers.batches import (
    BATCH_CHARACTERS,
    BATCH_ROWS,
    MOST_FIELD,
    Batch,
    Opened,
    RepeatedKey,
    Source,
    Unreadable,
    printable,
)
from worker.ingest.readers.text import CHUNK, encoding_of, reading

MOST_DEPTH = 100
"""Maximum nesting of objects and lists in a row; a conversation has three levels."""
_TICK_EVENTS = 1_000_000
_MOST_NAMED = 5


class Element(NamedTuple):
    """A value of a list, with what JSON permits and a dict loses."""

    value: Any
    repeated: set[tuple[str, str]]
    """Keys that an object names more than once, each with the field of the row that it is in."""


class Shape(NamedTuple):
    """Where the rows of a file are."""

    lines: bool
    """Each object is a row."""
    within: str = ""
    """The field of the single object whose list contains them."""


def shape_of(source: Source, bytes_: Any) -> Shape:
    """Read the first object. Raises Unreadable if it is the only object and has no list of objects, or several."""
    fields: list[str] = []
    lists: list[str] = []
    depth, begun = 0, False
    try:
        for event, value in _events(source, bytes_):
            if depth == 1 and event == "map_key":
                fields.append(value)
            elif depth == 2 and begun and event == "start_map" and fields[-1] not in lists:
                lists.append(fields[-1])
            begun = depth == 1 and event == "start_array"
            depth += event.startswith("start") - event.startswith("end")
    except ijson.JSONError:
        if depth == 0 and fields:  # another object follows
            return Shape(lines=True)
        if not lists:
            return Shape(lines=True)  # the reader of lines names the invalid line
    if len(lists) == 1:
        return Shape(lines=False, within=lists[0])
    names = ", ".join(printable(field) for field in (lists or fields)[:_MOST_NAMED])
    if lists:
        text = _(
            "%(name)s contains one object with several lists of objects (%(fields)s). Put each list into its own file, "
            "[{…}, …], named by its split.",
            name=source.name,
            fields=names,
        )
    else:
        text = _(
            "%(name)s contains one object (fields: %(fields)s) without a list of objects. Vezna reads a list of "
            "objects, [{…}, …], or one object per line.",
            name=source.name,
            fields=names or _("none"),
        )
    raise Unreadable(text)


def elements(source: Source, bytes_: Any, within: str | None) -> Iterator[Element]:
    """Yield the elements of the file's list, or of the list in the field `within` of its object. Raises Unreadable for
    elements that are nested too deeply, and ijson.JSONError."""
    base = 1 if within is None else 2
    depth, number, field, inside = 0, 0, "", False
    builder: ijson.ObjectBuilder | None = None
    keys, repeated, of_row = list[set[str]](), set[tuple[str, str]](), ""
    for event, value in ijson.basic_parse(bytes_, use_float=True):
        before = depth
        depth += event.startswith("start") - event.startswith("end")
        if depth > base + MOST_DEPTH:
            raise Unreadable(too_deep(source.name, _("element %(number)s", number=number + 1)))
        if builder is None and inside and before == base and depth >= base:
            builder, repeated = ijson.ObjectBuilder(), set()
        if builder is not None:
            builder.event(event, value)
            if event == "start_map":
                keys.append(set())
            elif event == "end_map":
                keys.pop()
            elif event == "map_key":
                of_row = value if depth == base + 1 else of_row
                if value in keys[-1]:
                    repeated.add((of_row, value))
                keys[-1].add(value)
            if depth == base:
                number += 1
                yield Element(builder.value, repeated)
                builder = None
        elif event == "map_key" and before == 1:
            field = value
        elif before == base - 1:
            inside = event == "start_array" and (within is None or field == within)


def too_deep(name: str, where: str) -> Message:
    """The message for a row that is nested too deeply."""
    return _(
        "%(name)s: %(where)s nests objects and lists more than %(limit)s levels deep. Write the deep part as text, or "
        "leave it out.",
        name=name,
        where=where,
        limit=MOST_DEPTH,
    )


def _events(source: Source, bytes_: Any) -> Iterator[tuple[str, Any]]:
    """The events of a file; reports progress from time to time."""
    for number, (event, value) in enumerate(ijson.basic_parse(bytes_, use_float=True)):
        if number % _TICK_EVENTS == 0:
            source.tick(0, 0)
        yield event, value


class _Row(NamedTuple):
    fields: dict[str, Any]
    bytes: int
    repeated: set[tuple[str, str]]
    """See `Element`."""


_NAMED = {dict: _("an object"), list: _("a list"), str: _("a string"), bool: _("a boolean"), type(None): _("null")}


def open_lines(source: Source) -> Opened:
    """Open a file with one object per line."""
    encoding = encoding_of(source)
    return Opened("jsonl", _lines(source, encoding.name), encoding.name, guessed_encoding=encoding.guessed)


def open_json(source: Source) -> Opened:
    """Open a file with a list of objects, with one object that has such a list, or with lines despite its name."""
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
                problem = _(
                    "%(name)s: line %(number)s is longer than %(limit)s characters. Put each row on its own line.",
                    name=source.name,
                    number=number,
                    limit=f"{MOST_FIELD:,}",
                )
                raise Unreadable(problem)
            if line.strip():
                where = _("line %(number)s", number=number)
                yield from gathered.add(where, number, _object(source.name, number, line), raw.tell())
    yield from gathered.rest()


def _object(name: str, number: int, line: str) -> _Row:
    where = _("line %(number)s", number=number)
    repeated: list[tuple[dict[str, Any], list[str]]] = []

    def as_dict(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        fields = dict(pairs)
        if len(fields) < len(pairs):
            counts = Counter(key for key, _value in pairs)
            repeated.append((fields, [key for key, count in counts.items() if count > 1]))
        return fields

    try:
        value = json.loads(line, object_pairs_hook=as_dict)
    except json.JSONDecodeError as error:
        remedy = _("Each line must contain one complete object")
        if number == 1 and line.strip() in ("{", "["):
            remedy = _("Vezna reads one object per line, or a list of objects [{…}, …] in a file named .json")
        text = _(
            "%(name)s: %(where)s is not valid JSON (%(what)s, at character %(column)s). %(remedy)s.",
            name=name,
            where=where,
            what=f"{error.msg[:1].lower()}{error.msg[1:]}",
            column=error.colno,
            remedy=remedy,
        )
        raise Unreadable(text) from error
    except RecursionError:
        raise Unreadable(too_deep(name, where)) from None
    except ValueError:  # Python limits the digits of an integer
        text = _("%(name)s: %(where)s has a number of thousands of digits. Write it as text.", name=name, where=where)
        raise Unreadable(text) from None
    row = _checked(name, where, value, set())
    if repeated:
        keys = {id(fields): names for fields, names in repeated}
        row.repeated.update((key, key) for key in keys.get(id(value), ()))
        row.repeated.update((field, key) for field, inner in row.fields.items() for key in _repeated_in(inner, keys))
    return row


def _repeated_in(value: Any, keys: Mapping[int, Sequence[str]]) -> Iterator[str]:
    """The duplicate keys of a value and of what it contains, from those of each object."""
    yield from keys.get(id(value), ())
    within = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for part in within:
        if isinstance(part, dict | list):
            yield from _repeated_in(part, keys)


def _checked(name: str, where: str, value: object, repeated: set[tuple[str, str]]) -> _Row:
    if not isinstance(value, dict):
        kind = _NAMED.get(type(value), _("a number"))
        raise Unreadable(
            _('%(name)s: %(where)s is %(kind)s, not an object such as {"text": …}.', name=name, where=where, kind=kind)
        )
    if not value:
        raise Unreadable(_("%(name)s: %(where)s is an object without fields. Leave it out.", name=name, where=where))
    if _deeper_than(MOST_DEPTH, value):
        raise Unreadable(too_deep(name, where))
    try:
        bytes_ = len(json.dumps(value, ensure_ascii=False).encode())
    except UnicodeEncodeError:
        text = _(
            "%(name)s: %(where)s contains an unpaired surrogate (\\ud800 to \\udfff), which is not valid text.",
            name=name,
            where=where,
        )
        raise Unreadable(text) from None
    return _Row(value, bytes_, repeated)


def _deeper_than(limit: int, value: Any) -> bool:
    """Whether objects and lists are nested deeper than `limit`, without recursion."""
    level = [value]
    for _depth in range(limit):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True


@contextmanager
def _bytes(source: Source, encoding: str) -> Iterator[tuple[Any, BinaryIO]]:
    """A file's bytes as UTF-8, and the raw file, whose position shows the progress."""
    with source.path.open("rb") as raw:
        yield raw if encoding == "utf-8" else _Recoded(raw, encoding), raw


def _elements(source: Source, encoding: str, within: str | None) -> Iterator[Batch]:
    gathered = _Gathered(source)
    number = 0
    with _bytes(source, encoding) as (bytes_, raw):
        try:
            for number, element in enumerate(elements(source, bytes_, within), start=1):
                where = _("element %(number)s", number=number)
                yield from gathered.add(where, number, _checked(source.name, where, *element), raw.tell())
        except ijson.JSONError as error:
            where = _("after element %(number)s", number=number) if number else _("at its beginning")
            what = first_line(error)
            text = _("%(name)s is not valid JSON: %(where)s, %(what)s.", name=source.name, where=where, what=what)
            raise Unreadable(text) from error
    yield from gathered.rest()


class _Recoded:
    """A file of another encoding as UTF-8. It is no `RawIOBase`: ijson would pass a buffer (`readinto`) that is too
    small for characters that take more bytes in UTF-8."""

    def __init__(self, raw: io.BufferedReader, encoding: str) -> None:
        self._text = io.TextIOWrapper(cast(Any, raw), encoding=encoding)

    def read(self, size: int) -> bytes:
        """Some bytes; ijson accepts more or fewer than `size`."""
        return self._text.read(size).encode()


class _Gathered:
    """Collects objects into batches; an object may lack fields of others."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._rows: list[dict[str, Any]] = []
        self._numbers: list[int] = []
        self._repeated: list[RepeatedKey] = []
        self._characters, self._count = 0, 0
        self._fields: set[str] = set()

    def add(self, where: str, number: int, row: _Row, place: int) -> Iterator[Batch]:
        """Add an object. Raises Unreadable once the rows have too many different fields."""
        self._fields.update(row.fields)
        if len(self._fields) > MOST_COLUMNS:
            text = _(
                "%(name)s: up to %(where)s there are %(count)s different fields, and Vezna reads at most %(limit)s. If "
                "field names are data, write them as values; else leave some fields out.",
                name=self._source.name,
                where=where,
                count=f"{len(self._fields):,}",
                limit=MOST_COLUMNS,
            )
            raise Unreadable(text)
        self._repeated += [RepeatedKey(len(self._rows), *names) for names in sorted(row.repeated)]
        self._rows.append(row.fields)
        self._numbers.append(number)
        self._characters += row.bytes
        if len(self._rows) >= BATCH_ROWS or self._characters >= BATCH_CHARACTERS:
            self._count += len(self._rows)
            self._source.tick(place, self._count)
            yield from self.rest()

    def rest(self) -> Iterator[Batch]:
        if self._rows:
            names = dict.fromkeys(name for row in self._rows for name in row)
            columns = {name: [row.get(name) for row in self._rows] for name in names}
            yield Batch(columns, self._numbers, self._repeated)
        self._rows, self._numbers, self._repeated, self._characters = [], [], [], 0
