"""Batches of rows: a file of any size is read in the same memory."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from app.domain.data.uploads import MOST_COLUMNS, FileKind, Part, ReadingOptions
from app.domain.errors import VeznaError
from app.domain.messages import Message, _

BATCH_ROWS = 5000
BATCH_CHARACTERS = 1 << 22
"""A batch ends when it reaches either limit."""
MOST_FIELD = 1 << 24
"""Maximum characters of a field, or of a line of JSON."""
Value = Any
"""A text, number, truth value or None, or lists and objects of them."""
Tick = Callable[[int, int], None]
"""Receives the bytes and rows read so far of one file."""


class Unreadable(VeznaError):
    """A file cannot be read; the message names the row."""


def internal_error(error: Exception) -> Message:
    why = f"{type(error).__name__}: {error}"
    return _("The data could not be read because of an internal error (%(why)s). Report this bug in Vezna.", why=why)


class RepeatedKey(NamedTuple):
    """A key that an object of JSON names more than once; its last value is kept."""

    place: int
    """Place of the row in its batch."""
    column: str
    key: str


class Batch(NamedTuple):
    """Rows [n] by column, with their positions in the file."""

    columns: Mapping[str, Sequence[Value]]
    rows: Sequence[int]
    """Row numbers as an editor shows them; see `app.domain.data.findings.Example`."""
    repeated: Sequence[RepeatedKey] = ()


class LocalPart(NamedTuple):
    part: Part
    path: Path


@dataclass
class Opened:
    kind: FileKind
    batches: Iterator[Batch]
    encoding: str = ""
    delimiter: str = ""
    header: bool = True
    guessed_encoding: bool = False
    """The file is not UTF-8 and has no byte order mark."""
    skipped: Sequence[str] = ()
    """Files of an archive that are not read."""


class Source(NamedTuple):
    name: str
    path: Path
    options: ReadingOptions
    tick: Tick


def check_columns(name: str, columns: Sequence[str]) -> None:
    """Raise Unreadable for duplicate column names, names that cannot be shown, or too many columns."""
    if len(columns) > MOST_COLUMNS:
        text = _(
            "%(name)s has %(count)s columns, and Vezna reads at most %(limit)s. Leave some out.",
            name=name,
            count=f"{len(columns):,}",
            limit=MOST_COLUMNS,
        )
        raise Unreadable(text)
    positions: dict[str, int] = {}
    for place, column in enumerate(columns, start=1):
        if column in positions:
            text = _(
                "%(name)s: columns %(first)s and %(second)s are both named %(column)r. Rename one of them.",
                name=name,
                first=positions[column],
                second=place,
                column=column,
            )
            raise Unreadable(text)
        if not column.isprintable():
            bad = next(c for c in column if not c.isprintable())
            text = _(
                "%(name)s: the name of column %(place)s contains the unprintable character U+%(code)04X. Rename it.",
                name=name,
                place=place,
                code=ord(bad),
            )
            raise Unreadable(text)
        positions[column] = place


def printable(text: str) -> str:
    """A short excerpt of a file for a message."""
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[:60])
    return shown + ("…" if len(text) > 60 else "")
