"""A table as a CSV file that a spreadsheet may open."""

import csv
import io
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TextIO

from fastapi.responses import StreamingResponse

FORMULA = ("=", "+", "-", "@", "\t", "\r")


BLOCK = 4096
"""Rows that are text at one time."""


def csv_file(rows: Iterable[Iterable[object]], name: str) -> StreamingResponse:
    """Header and rows, to be kept under that name; they are written as they are sent."""
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-cache"}
    return StreamingResponse(_blocks(iter(rows)), media_type="text/csv", headers=headers)


def _blocks(rows: Iterator[Iterable[object]]) -> Iterator[str]:
    while block := [*islice(rows, BLOCK)]:
        text = io.StringIO()
        write_csv(text, block)
        yield text.getvalue()


def write_csv(file: TextIO, rows: Iterable[Iterable[object]]) -> None:
    """Rows behind those that are there."""
    csv.writer(file, lineterminator="\n").writerows(map(_plain, row) for row in rows)


def _plain(cell: object) -> object:
    """Words that a spreadsheet would take for a formula have an apostrophe before them; numbers stay numbers."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell
