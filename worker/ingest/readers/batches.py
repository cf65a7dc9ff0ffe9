"""Rows as they come out of a file, some thousand at a time, so that a file of any size takes the same memory."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from app.domain.data.uploads import MOST_COLUMNS, FileKind, Part, ReadingOptions
from app.domain.errors import VeznaError

BATCH_ROWS = 5000
BATCH_CHARACTERS = 1 << 22
"""A batch ends with whichever comes first."""
MOST_FIELD = 1 << 24
"""Characters of one field, of a line of JSON too."""
Value = Any
"""Text, number, truth, None, or lists and objects of them."""
Tick = Callable[[int, int], None]
"""Is told the bytes and the rows that were read so far, of one file."""


class Unreadable(VeznaError):
    """A file is not what it should be; the sentence names the row."""


class Batch(NamedTuple):
    """Rows [n] by column, with their positions in the file."""

    columns: Mapping[str, Sequence[Value]]
    rows: Sequence[int]
    """Row numbers as an editor shows them; see `app.domain.data.findings.Example`."""


class LocalPart(NamedTuple):
    """A file of an upload, on this machine."""

    part: Part
    path: Path


@dataclass
class Opened:
    """A file that is being read."""

    kind: FileKind
    batches: Iterator[Batch]
    encoding: str = ""
    delimiter: str = ""
    header: bool = True
    guessed_encoding: bool = False
    """Neither UTF-8 nor marked as what it is."""


class Source(NamedTuple):
    """A file and how it is to be read."""

    name: str
    path: Path
    options: ReadingOptions
    tick: Tick


def check_columns(name: str, columns: Sequence[str]) -> None:
    """Raise Unreadable for duplicate column names, names that cannot be shown, or too many columns."""
    if len(columns) > MOST_COLUMNS:
        many = f"{len(columns):,} columns, and Vezna reads at most {MOST_COLUMNS}"
        raise Unreadable(f"{name} has {many}: leave some out.")
    seen: dict[str, int] = {}
    for place, column in enumerate(columns, start=1):
        if column in seen:
            raise Unreadable(
                f"{name}: columns {seen[column]} and {place} are both named {column!r}: rename one of them."
            )
        if not column.isprintable():
            bad = next(c for c in column if not c.isprintable())
            what = f"the name of column {place} has the character U+{ord(bad):04X}, which cannot be shown"
            raise Unreadable(f"{name}: {what}: rename it.")
        seen[column] = place


def printable(text: str) -> str:
    """A short piece of a file for a sentence."""
    kept = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[:60])
    return kept + ("…" if len(text) > 60 else "")
