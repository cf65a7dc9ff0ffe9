"""CSV and TSV, strictly: a row that does not fit, or a quotation mark that is not closed, ends the reading, named.

Read by Python's csv module, which alone tells in which row and line it is; Arrow's reader is faster and does not.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from app.domain.data.guesses import ROLE_NAMES
from app.domain.data.uploads import FileKind
from worker.ingest.readers.batches import (
    BATCH_CHARACTERS,
    BATCH_ROWS,
    MOST_FIELD,
    Batch,
    Opened,
    Source,
    Unreadable,
    check_columns,
    printable,
)
from worker.ingest.readers.text import encoding_of, reading

DELIMITERS = (",", ";", "\t", "|")
_NAMED = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_TELLING = re.compile(r'"?sep=(.)"?[ ]*(?:\r\n|\r|\n)', re.IGNORECASE)
"""A first line that is no row: it tells Excel the delimiter."""
_HEAD_CHARACTERS = 1 << 16
_HEAD_ROWS = 200
_LONGEST_NAME = 60
"""Of a column; a longer first field is a text."""
_KNOWN = {name for names in ROLE_NAMES.values() for name in names} | {"id", "split", "idx", "index"}


@dataclass(frozen=True)
class _Form:
    delimiter: str
    header: bool
    columns: list[str]
    skipped: int = 0
    """Lines before the first row: the one by which Excel is told the delimiter."""


def open_delimited(source: Source, kind: FileKind) -> Opened:
    """A CSV or TSV file. Raises Unreadable at once for its first rows, and later for others."""
    csv.field_size_limit(MOST_FIELD)
    encoding = encoding_of(source)
    form = _form(source, encoding.name, kind)
    return Opened(
        kind=kind,
        batches=_batches(source, encoding.name, form),
        encoding=encoding.name,
        delimiter=form.delimiter,
        header=form.header,
        guessed_encoding=encoding.guessed,
    )


def _form(source: Source, encoding: str, kind: FileKind) -> _Form:
    with reading(source, encoding) as (text, _):
        head = text.read(_HEAD_CHARACTERS)
        whole = not text.read(1)
    told = _TELLING.match(head)
    head = head[told.end() :] if told else head
    if not head.strip():
        raise Unreadable(f"{source.name} holds nothing but white space{' below its first line' if told else ''}.")
    if told and told[1] not in DELIMITERS and not source.options.delimiter:
        able = ", ".join(_NAMED.values())
        what = f"its first line says that fields are apart by {printable(told[1])!r}"
        raise Unreadable(f"{source.name}: {what}, and Vezna reads files with one of these: {able}. Save it with one.")
    said = source.options.delimiter or (told[1] if told else "")
    delimiter = said or _delimiter(head, whole, "\t" if kind == "tsv" else ",")
    rows = _first_rows(head, whole, delimiter)
    if not rows:  # its first row is longer than the head
        rows = _rows(head, delimiter)[:1]
    first = rows[0]
    if source.options.delimiter and len(first) == 1:
        other = next((d for d in DELIMITERS if d != delimiter and d in first[0]), None)
        if other:
            what = f"its first row has no {_NAMED[delimiter]}, and has a {_NAMED[other]}"
            raise Unreadable(f"{source.name}: {what}: read it with that delimiter.")
    header = _has_header(rows) if source.options.header is None else source.options.header
    names = [name.strip() for name in first] if header else [""] * len(first)
    columns = [name or f"column {place}" for place, name in enumerate(names, start=1)]
    check_columns(source.name, columns)
    if header and whole and len(rows) == 1:
        raise Unreadable(f"{source.name} has a header ({', '.join(columns)[:200]}) and no rows below it.")
    return _Form(delimiter, header, columns, skipped=1 if told else 0)


def _first_rows(head: str, whole: bool, delimiter: str) -> list[list[str]]:
    """The rows in the head of a file, without the last row of a truncated head, which may be incomplete."""
    rows = _rows(head, delimiter)
    return rows[:_HEAD_ROWS] if whole else rows[:-1][:_HEAD_ROWS]


def _rows(head: str, delimiter: str) -> list[list[str]]:
    """The rows that are not blank."""
    return [row for row in csv.reader(io.StringIO(head, newline=""), delimiter=delimiter) if row]


def _delimiter(head: str, whole: bool, usual: str) -> str:
    """What parts most rows into the same number of fields, more than one; `usual` where nothing does or two do."""

    def evenness(delimiter: str) -> tuple[float, bool]:
        rows = _first_rows(head, whole, delimiter)
        if not rows or len(rows[0]) < 2:
            return 0.0, delimiter == usual
        widths = Counter(len(row) for row in rows)
        return widths[len(rows[0])] / len(rows), delimiter == usual

    return max(DELIMITERS, key=evenness)


def _has_header(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first row names columns: it has a name that is known, or nothing that looks like a value."""
    first = [field.strip() for field in rows[0]]
    if any(field.lower() in _KNOWN for field in first):
        return True
    if any(len(field) > _LONGEST_NAME or _is_number(field) for field in first) or not all(first):
        return False
    below = rows[1:]
    return not any(row[place : place + 1] == [field] for row in below for place, field in enumerate(first))


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _batches(source: Source, encoding: str, form: _Form) -> Iterator[Batch]:
    width, count = len(form.columns), 0
    rows: list[list[str]] = []
    numbers: list[int] = []
    characters = 0
    with reading(source, encoding) as (text, raw):
        for _line in range(form.skipped):
            text.readline()
        for number, row in _numbered(source, csv.reader(text, delimiter=form.delimiter, strict=True), form):
            if len(row) != width:
                raise Unreadable(_ragged(source.name, number, row, form))
            rows.append(row)
            numbers.append(number)
            characters += sum(map(len, row))
            if len(rows) >= BATCH_ROWS or characters >= BATCH_CHARACTERS:
                count += len(rows)
                source.tick(raw.tell(), count)
                yield Batch(dict(zip(form.columns, zip(*rows, strict=True), strict=True)), numbers)
                rows, numbers, characters = [], [], 0
    if rows:
        yield Batch(dict(zip(form.columns, zip(*rows, strict=True), strict=True)), numbers)


def _numbered(source: Source, reader: "csv.Reader", form: _Form) -> Iterator[tuple[int, list[str]]]:  # type: ignore[name-defined]
    """Rows that are not blank with their numbers; without the header, which must not come again."""
    number = 0
    header: list[str] = []
    try:
        for number, row in enumerate(reader, start=1):
            if row and form.header and not header:
                header = row
            elif row:
                if row == header:
                    raise Unreadable(
                        f"{source.name}: row {number} repeats the header: remove it. Were two files put together?"
                    )
                yield number, row
    except csv.Error as error:
        line = reader.line_num + form.skipped
        raise Unreadable(_broken(source.name, number + 1, line, str(error))) from error


def _ragged(name: str, number: int, row: list[str], form: _Form) -> str:
    fields = f"{len(row)} field{'s' if len(row) != 1 else ''}"
    whose = "the header" if form.header else "the first row"
    what = f"row {number} has {fields}, and {whose} has {len(form.columns)}"
    mark = _NAMED.get(form.delimiter, form.delimiter)
    remedy = (
        f"a {mark} within a text needs quotation marks around the text"
        if len(row) > len(form.columns)
        else f"nothing stands for its column {form.columns[len(row)]!r}; add it, or leave the row out"
    )
    return f"{name}: {what} (it begins with {printable(row[0])!r}): {remedy}."


def _broken(name: str, number: int, line: int, error: str) -> str:
    where = f"row {number}" if number == line else f"row {number} (line {line})"
    if "field limit" in error or "end of data" in error:
        what = "a field that begins with a quotation mark does not end: close it, or double the marks within it"
    elif "expected after" in error:
        what = 'a quotation mark stands within a quoted field: write it twice ("")'
    else:
        what = error
    return f"{name}: {where} cannot be read: {what}."
