"""Findings about single fields: invisible characters, spreadsheet formulas, very long fields."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from app.domain.data.findings import MOST_EXAMPLES, Details, Example, Finding, FindingCode, Severity, excerpt
from worker.ingest.columns import shown
from worker.ingest.readers.batches import Batch, Value

VERY_LONG = 100_000
"""Characters; some 25,000 tokens."""
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_STARTS = ("=", "+", "-", "@")
_FORMULA = re.compile(r"=\s*[^\s=]|[+\-@][A-Za-z_.]+\(")
_SEVERITIES: dict[FindingCode, Severity] = {
    "control-characters": "warns",
    "formulas": "notes",
    "very-long-field": "warns",
    "encoding": "warns",
}


@dataclass
class _Seen:
    count: int = 0
    examples: list[Example] = field(default_factory=list)


class Oddities:
    """Checks every text."""

    def __init__(self, several_files: bool) -> None:
        self._several = several_files
        self._seen: dict[tuple[FindingCode, str], _Seen] = {}
        self._encoding = ""

    def look(self, batch: Batch, file: str, guessed_encoding: str) -> None:
        """More rows; `guessed_encoding` is empty where it is certain."""
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

    def findings(self) -> Iterator[Finding]:
        """One for each column and each thing."""
        details = {"very-long-field": Details(limit=VERY_LONG), "encoding": Details(encoding=self._encoding)}
        for (code, column), seen in self._seen.items():
            yield Finding(
                code=code,
                severity=_SEVERITIES[code],
                count=seen.count,
                column=column,
                details=details.get(code, Details()),
                examples=seen.examples,
            )

    def _beyond_ascii(self, column: str, values: Sequence[Value], rows: Sequence[int], file: str) -> None:
        for place, value in enumerate(values):
            if isinstance(value, str) and not value.isascii():
                self._note("encoding", column, file, rows[place], _around(value))

    def _note(self, code: FindingCode, column: str, file: str, row: int, value: str) -> None:
        seen = self._seen.setdefault((code, column), _Seen())
        seen.count += 1
        if len(seen.examples) < MOST_EXAMPLES:
            name = file if self._several else ""
            seen.examples.append(Example(row=row, file=name, excerpt=excerpt(value)))


def _may_be_odd(value: str) -> bool:
    """Quickly, for nearly no value is."""
    return not value.isprintable() or value.startswith(_STARTS) or len(value) > VERY_LONG


def _odd(value: str) -> Iterator[FindingCode]:
    if len(value) > VERY_LONG:
        yield "very-long-field"
    if _FORMULA.match(value):
        yield "formulas"
    if not value.isprintable() and CONTROL.search(value):
        yield "control-characters"


def _characters(value: Value) -> int:
    """Of all texts in a list or an object."""
    if isinstance(value, str):
        return len(value)
    within = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return sum(map(_characters, within))


def _around(value: str) -> str:
    """The piece of a text in which its first letter beyond ASCII stands."""
    place = next(i for i, sign in enumerate(value) if ord(sign) > 127)
    return value[max(0, place - 40) : place + 80]
