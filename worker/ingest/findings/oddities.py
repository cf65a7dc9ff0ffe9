"""Findings about single fields: invisible characters, spreadsheet formulas, very long fields, duplicate keys."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from app.domain.data.findings import (
    MOST_EXAMPLES,
    MOST_NAMED,
    Details,
    Example,
    Finding,
    FindingCode,
    Severity,
    excerpt,
)
from worker.ingest.readers.batches import Batch, Value
from worker.ingest.rows.columns import shown

VERY_LONG = 100_000
"""Characters: some 25,000 tokens."""
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_STARTS = ("=", "+", "-", "@")
_FORMULA = re.compile(r"=\s*[^\s=]|[+\-@][A-Za-z_.]+\(")
_SEVERITIES: dict[FindingCode, Severity] = {
    "control-characters": "warns",
    "formulas": "notes",
    "very-long-field": "warns",
    "encoding": "warns",
    "duplicate-keys": "warns",
}


@dataclass
class _Oddity:
    count: int = 0
    examples: list[Example] = field(default_factory=list)
    keys: dict[str, None] = field(default_factory=dict)


class Oddities:
    """Checks every text of an upload."""

    def __init__(self, several_files: bool) -> None:
        self._several = several_files
        self._oddities: dict[tuple[FindingCode, str], _Oddity] = {}
        self._encoding = ""

    def add(self, batch: Batch, file: str, guessed_encoding: str) -> None:
        """Check a batch; `guessed_encoding` is empty if the encoding is certain."""
        self._encoding = self._encoding or guessed_encoding
        for column, values in batch.columns.items():
            for place, value in enumerate(values):
                if isinstance(value, str):
                    if _may_be_odd(value):
                        for code in _odd(value):
                            self._note(code, column, file, batch.rows[place], value)
                elif isinstance(value, list | dict) and _characters(value) > VERY_LONG:
                    self._note("very-long-field", column, file, batch.rows[place], shown(value))
            if guessed_encoding:
                self._beyond_ascii(column, values, batch.rows, file)
        self._repeated_keys(batch, file)

    def findings(self) -> Iterator[Finding]:
        """One finding per column and kind of oddity."""
        details = {"very-long-field": Details(limit=VERY_LONG), "encoding": Details(encoding=self._encoding)}
        for (code, column), oddity in self._oddities.items():
            yield Finding(
                code=code,
                severity=_SEVERITIES[code],
                count=oddity.count,
                column=column,
                details=Details(labels=list(oddity.keys)) if oddity.keys else details.get(code, Details()),
                examples=oddity.examples,
            )

    def _beyond_ascii(self, column: str, values: Sequence[Value], rows: Sequence[int], file: str) -> None:
        for place, value in enumerate(values):
            if isinstance(value, str) and not value.isascii():
                self._note("encoding", column, file, rows[place], _around(value))

    def _repeated_keys(self, batch: Batch, file: str) -> None:
        """Count each row once per column, however many keys repeat."""
        by_field: dict[tuple[int, str], list[str]] = {}
        for place, column, key in batch.repeated:
            by_field.setdefault((place, column), []).append(excerpt(key))
        for (place, column), keys in by_field.items():
            self._note("duplicate-keys", column, file, batch.rows[place], shown(batch.columns[column][place]))
            oddity = self._oddities["duplicate-keys", column]
            oddity.keys |= dict.fromkeys(keys[: MOST_NAMED - len(oddity.keys)])

    def _note(self, code: FindingCode, column: str, file: str, row: int, value: str) -> None:
        oddity = self._oddities.setdefault((code, column), _Oddity())
        oddity.count += 1
        if len(oddity.examples) < MOST_EXAMPLES:
            name = file if self._several else ""
            oddity.examples.append(Example(row=row, file=name, excerpt=excerpt(value)))


def _may_be_odd(value: str) -> bool:
    """A fast check: nearly no value is odd."""
    return not value.isprintable() or value.startswith(_STARTS) or len(value) > VERY_LONG


def _odd(value: str) -> Iterator[FindingCode]:
    if len(value) > VERY_LONG:
        yield "very-long-field"
    if _FORMULA.match(value):
        yield "formulas"
    if not value.isprintable() and CONTROL.search(value):
        yield "control-characters"


def _characters(value: Value) -> int:
    """Characters of all texts in a list or an object."""
    if isinstance(value, str):
        return len(value)
    within = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return sum(map(_characters, within))


def _around(value: str) -> str:
    """The part of a text around its first non-ASCII character."""
    place = next(i for i, sign in enumerate(value) if ord(sign) > 127)
    return value[max(0, place - 40) : place + 80]
