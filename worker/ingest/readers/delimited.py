"""Reads CSV and TSV strictly: a row of another width, or an unclosed quotation mark, is an error that names the row.

It uses Python's csv module, which knows its row and line; Arrow's reader is faster and does not.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from app.domain.data.guesses.column_names import ROLE_NAMES
from app.domain.data.uploads import FileKind
from app.domain.messages import Message, _
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
_NAMED = {",": _("comma"), ";": _("semicolon"), "\t": _("tab"), "|": _("bar")}
_SEP_LINE = re.compile(r'"?sep=(.)"?[ ]*(?:\r\n|\r|\n)', re.IGNORECASE)
"""A first line that is no row: it names the delimiter for Excel."""
_HEAD_CHARACTERS = 1 << 16
_HEAD_ROWS = 200
_LONGEST_NAME = 60
"""Maximum length of a column name; a longer first field is a text."""
_KNOWN = {name for names in ROLE_NAMES.values() for name in names} | {"id", "split", "idx", "index"}


@dataclass(frozen=True)
class _Form:
    delimiter: str
    header: bool
    columns: list[str]
    skipped: int = 0
    """Lines before the first row: 1 if the first line names the delimiter for Excel."""


def open_delimited(source: Source, kind: FileKind) -> Opened:
    """Open a CSV or TSV file. Raises Unreadable for its first rows, and while batches are read for the others."""
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
    with reading(source, encoding) as (text, _raw):
        head = text.read(_HEAD_CHARACTERS)
        complete = not text.read(1)
    sep_line = _SEP_LINE.match(head)
    head = head[sep_line.end() :] if sep_line else head
    if not head.strip():
        raise Unreadable(
            _("%(name)s contains only white space below its first line.", name=source.name)
            if sep_line
            else _("%(name)s contains only white space.", name=source.name)
        )
    if sep_line and sep_line[1] not in DELIMITERS and not source.options.delimiter:
        problem = _(
            "%(name)s: its first line names the delimiter %(delimiter)r, and Vezna reads files with one of these: "
            "%(names)s. Save it with one of them.",
            name=source.name,
            delimiter=printable(sep_line[1]),
            names=Message.joined(_NAMED.values(), ", "),
        )
        raise Unreadable(problem)
    delimiter = source.options.delimiter or (sep_line[1] if sep_line else "")
    delimiter = delimiter or _delimiter(head, complete, "\t" if kind == "tsv" else ",")
    rows = _first_rows(head, complete, delimiter)
    if not rows:  # its first row is longer than the head
        rows = _rows(head, delimiter)[:1]
    first = rows[0]
    if source.options.delimiter and len(first) == 1:
        other = next((d for d in DELIMITERS if d != delimiter and d in first[0]), None)
        if other:
            problem = _(
                "%(name)s: its first row contains no %(delimiter)s, but contains a %(other)s. Read it with that "
                "delimiter.",
                name=source.name,
                delimiter=_NAMED[delimiter],
                other=_NAMED[other],
            )
            raise Unreadable(problem)
    header = _has_header(rows) if source.options.header is None else source.options.header
    names = [name.strip() for name in first] if header else [""] * len(first)
    columns = [name or f"column {place}" for place, name in enumerate(names, start=1)]
    check_columns(source.name, columns)
    if header and complete and len(rows) == 1:
        listed = ", ".join(columns)[:200]
        raise Unreadable(
            _("%(name)s has a header (%(columns)s) but no rows below it.", name=source.name, columns=listed)
        )
    return _Form(delimiter, header, columns, skipped=1 if sep_line else 0)


def _first_rows(head: str, complete: bool, delimiter: str) -> list[list[str]]:
    """The rows in the head of a file, without the last row of a truncated head, which may be incomplete."""
    rows = _rows(head, delimiter)
    return rows[:_HEAD_ROWS] if complete else rows[:-1][:_HEAD_ROWS]


def _rows(head: str, delimiter: str) -> list[list[str]]:
    """The rows that are not blank."""
    return [row for row in csv.reader(io.StringIO(head, newline=""), delimiter=delimiter) if row]


def _delimiter(head: str, complete: bool, usual: str) -> str:
    """The delimiter that splits most rows into the same number of fields, at least two; `usual` if it is a tie."""

    def evenness(delimiter: str) -> tuple[float, bool]:
        rows = _first_rows(head, complete, delimiter)
        if not rows or len(rows[0]) < 2:
            return 0.0, delimiter == usual
        widths = Counter(len(row) for row in rows)
        return widths[len(rows[0])] / len(rows), delimiter == usual

    return max(DELIMITERS, key=evenness)


def _has_header(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first row names columns: it contains a known name, or nothing that looks like a value."""
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
    """The rows that are not blank, with their numbers, without the header. Raises Unreadable if the header repeats."""
    number = 0
    header: list[str] = []
    try:
        for number, row in enumerate(reader, start=1):
            if row and form.header and not header:
                header = row
            elif row:
                if row == header:
                    text = _(
                        "%(name)s: row %(number)s repeats the header; were two files joined? Remove it.",
                        name=source.name,
                        number=number,
                    )
                    raise Unreadable(text)
                yield number, row
    except csv.Error as error:
        line = reader.line_num + form.skipped
        raise Unreadable(_broken(source.name, number + 1, line, str(error))) from error


def _ragged(name: str, number: int, row: list[str], form: _Form) -> Message:
    values = {
        "name": name,
        "number": number,
        "start": printable(row[0]),
        "fields": len(row),
        "width": len(form.columns),
        "first": _("the header") if form.header else _("the first row"),
    }
    if len(row) > len(form.columns):
        return _(
            "%(name)s: row %(number)s (it begins with %(start)r) has %(fields)s fields, and %(first)s has %(width)s. "
            "Put quotation marks around a text that contains a %(delimiter)s.",
            delimiter=_NAMED.get(form.delimiter, form.delimiter),
            **values,
        )
    return _(
        "%(name)s: row %(number)s (it begins with %(start)r) has %(fields)s of the %(width)s fields of %(first)s, and "
        "no value for the column %(column)r. Add one, or leave the row out.",
        column=form.columns[len(row)],
        **values,
    )


def _broken(name: str, number: int, line: int, error: str) -> Message:
    where = _("row %(number)s", number=number)
    if number != line:
        where = _("row %(number)s (line %(line)s)", number=number, line=line)
    why = error
    if "field limit" in error or "end of data" in error:
        why = _("a quoted field is not closed. Close it, or double the quotation marks inside it")
    elif "expected after" in error:
        why = _('a quoted field contains a quotation mark. Write it twice ("")')
    return _("%(name)s: %(where)s cannot be read: %(why)s.", name=name, where=where, why=why)
