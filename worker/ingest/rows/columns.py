"""Statistics of a column, from its values in batches."""

import json
import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from app.domain.data.findings import excerpt
from app.domain.data.guesses.mapping import MOST_LABELS, Column, ColumnKind
from app.domain.data.guesses.written_lists import read_list
from app.domain.data.uploads import MOST_VALUES, SHOWN_ROWS
from worker.ingest.readers.batches import Value

_LONGEST_VALUE = 200
"""A longer value is neither a label nor the name of a split."""
_KINDS: dict[type, ColumnKind] = {
    str: "text",
    bool: "boolean",
    int: "integer",
    float: "number",
    list: "list",
    dict: "object",
    bytes: "image",
}


class ColumnScan:
    def __init__(self, name: str) -> None:
        self.name = name
        self._kinds: set[ColumnKind] = set()
        self._numbers: ColumnKind | None = "integer"
        """The numeric kind that all texts so far have; for files without types."""
        self._examples: list[str] = []
        self._empty, self._longest = 0, 0
        self._values: Counter[str] | None = Counter()

    def add(self, values: Sequence[Value]) -> None:
        if len(self._examples) < SHOWN_ROWS:
            missing = SHOWN_ROWS - len(self._examples)
            self._examples += [excerpt(shown(value)) for value in values[:missing]]
        present = [v for v in values if v is not None and not (isinstance(v, str) and (not v or v.isspace()))]
        self._empty += len(values) - len(present)
        kinds = {_KINDS.get(kind, "mixed") for kind in set(map(type, present))}
        self._kinds |= kinds
        if kinds == {"text"}:
            self._longest = max(self._longest, max(map(len, present), default=0))
            self._numbers = self._numbers and _numbers(present, self._numbers)
        elif present:
            self._longest = max(self._longest, *(len(shown(v)) for v in present))
        if self._values is not None and present:
            self._count(present)

    def absent(self, rows: int) -> None:
        """Add rows without this column."""
        self._examples += [""] * min(rows, max(0, SHOWN_ROWS - len(self._examples)))
        self._empty += rows

    @property
    def column(self) -> Column:
        counts = self._values or Counter()
        if any("\0" in value for value in counts):
            counts = Counter()  # PostgreSQL stores no NUL
        return Column(
            name=self.name,
            kind=self._kind,
            examples=self._examples,
            empty=self._empty,
            distinct=len(counts) or None,
            values=dict(counts.most_common(MOST_VALUES)),
            longest=self._longest,
        )

    @property
    def _kind(self) -> ColumnKind:
        if not self._kinds:
            return "empty"
        if self._kinds == {"text"}:
            return self._numbers or "text"
        if self._kinds == {"integer", "number"}:
            return "number"
        return next(iter(self._kinds)) if len(self._kinds) == 1 else "mixed"

    def _count(self, present: Sequence[Value]) -> None:
        assert self._values is not None  # noqa: S101 the caller checks it
        if any(isinstance(v, list | dict | bytes) for v in present):
            self._values = None
            return
        self._values.update(present if self._kinds == {"text"} else map(shown, present))
        if len(self._values) > MOST_LABELS * 10 or any(len(v) > _LONGEST_VALUE for v in self._values):
            self._values = None


def shown(value: Value) -> str:
    match value:
        case str():
            return value
        case None:
            return ""
        case bytes():
            return f"({len(value):,} bytes)"
        case bool():
            return "true" if value else "false"
        case float() if value.is_integer() and abs(value) < 1e15:
            return str(int(value))
        case int() | float():
            return str(value)
        case _:
            return json.dumps(value, ensure_ascii=False, default=str)


def not_finite(value: Value) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _numbers(texts: Sequence[str], at_least: ColumnKind) -> ColumnKind | None:
    """`integer` or `number` if all texts are; None if any is not."""
    kind = at_least
    for text in texts:
        try:
            int(text)
        except ValueError:
            kind = "number"
            try:
                float(text)
            except ValueError:
                return None
    return kind


class Broken(NamedTuple):
    """A value that is no list of words."""

    shown: str


def words_of(value: Value) -> list[str] | Broken:
    """The words in a list, in a list as JSON, Python or numpy writes it, or in a text between its white space."""
    if value is None:
        return []
    if isinstance(value, str):
        listed = read_list(value)
        value = value.split() if listed is None else listed
    if not isinstance(value, list) or any(word is ... or isinstance(word, list | dict) for word in value):
        return Broken(shown(value)[:1000])
    words = [shown(word) for word in value]
    return Broken(shown(value)[:1000]) if any(not word or word.isspace() for word in words) else words
