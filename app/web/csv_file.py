"""A table as a CSV file that a spreadsheet may open."""

import csv
import io
from collections.abc import Iterable
from typing import TextIO

from fastapi.responses import Response

FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv_file(rows: Iterable[Iterable[object]], name: str) -> Response:
    """Header and rows, to be kept under that name."""
    text = io.StringIO()
    write_csv(text, rows)
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-cache"}
    return Response(text.getvalue(), media_type="text/csv", headers=headers)


def write_csv(file: TextIO, rows: Iterable[Iterable[object]]) -> None:
    """Rows behind those that are there."""
    csv.writer(file, lineterminator="\n").writerows(map(_plain, row) for row in rows)


def _plain(cell: object) -> object:
    """Words that a spreadsheet would take for a formula have an apostrophe before them; numbers stay numbers."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell
