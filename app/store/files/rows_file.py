"""A dataset's rows as a Parquet file: the only writer of such files.

item (text), split (text), and the columns of the format, see `app.domain.data.dataset`.
"""

import secrets
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from app.domain.data.dataset import ROWS, DatasetFacts, Row, Tally
from app.domain.tasks import Format
from app.store.files.files import DATASETS

_TURN = pa.struct([("role", pa.string()), ("content", pa.string()), ("more", pa.string())])
_TYPES = {
    "label": pa.int32(),
    "image": pa.binary(),
    "tokens": pa.list_(pa.string()),
    "tags": pa.list_(pa.int32()),
    "messages": pa.list_(_TURN),
}
"""Types of the columns that are not plain text."""


class RowsFile:
    """Writes rows in row groups: `with RowsFile(path, form, labels) as file`."""

    def __init__(self, path: Path, form: Format, labels: Sequence[str] = ()) -> None:
        self._schema = pa.schema([(column, column_type(column)) for column in ROWS[form]._fields])
        self._tally = Tally(form, labels)
        self._writer = pq.ParquetWriter(path, self._schema)

    def write(self, rows: Sequence[Row]) -> None:
        if rows:
            self._tally.add(rows)
            columns = dict(zip(self._schema.names, map(list, zip(*rows, strict=True)), strict=True))
            self._writer.write_table(pa.table(columns, schema=self._schema))

    @property
    def facts(self) -> DatasetFacts:
        """Facts of the rows that were written."""
        return self._tally.facts

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()


def column_type(column: str) -> pa.DataType:
    """Arrow's type of a column of rows."""
    return _TYPES.get(column, pa.string())


def new_name(facts: DatasetFacts) -> str:
    """The name of a version's rows in the files store. Each version has its own file, even if two have the same rows,
    so that deleting one cannot interfere with creating another."""
    return f"{DATASETS}/{facts.content_hash}-{facts.format}-{secrets.token_hex(8)}.parquet"
