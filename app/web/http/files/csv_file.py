"""A table as a CSV file that is safe to open in a spreadsheet."""

import csv
import io
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TextIO

from fastapi.responses import StreamingResponse

FORMULA = ("=", "+", "-", "@", "\t", "\r")


BLOCK = 4096
"""Rows that are formatted at once."""


def csv_file(rows: Iterable[Iterable[object]], name: str) -> StreamingResponse:
    """A download of the header and the rows under a file name; rows are formatted as they are sent."""
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-cache"}
    return StreamingResponse(_blocks(iter(rows)), media_type="text/csv", headers=headers)


def _blocks(rows: Iterator[Iterable[object]]) -> Iterator[str]:
    while block := [*islice(rows, BLOCK)]:
        text = io.StringIO()
        write_csv(text, block)
        yield text.getvalue()


def write_csv(file: TextIO, rows: Iterable[Iterable[object]]) -> None:
    csv.writer(file, lineterminator="\n").writerows(map(_plain, row) for row in rows)


def _plain(cell: object) -> object:
    """A text that a spreadsheet would read as a formula gets an apostrophe in front; numbers stay numbers."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell
