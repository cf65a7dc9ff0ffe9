"""Datasets: make rows known under a name."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy.orm import Session

from app.domain.datasets import ROWS, Row, facts
from app.domain.errors import Conflict
from app.domain.tasks import Format
from app.store.files import Files
from app.store.queries import datasets
from app.store.tables import DatasetRow

_TURN = pa.struct([("role", pa.string()), ("content", pa.string())])
_TYPES = {"label": pa.int32(), "messages": pa.list_(_TURN)}
"""Of the columns that are no plain text."""


def register(
    session: Session,
    files: Files,
    *,
    name: str,
    title: str,
    form: Format,
    rows: Sequence[Row],
    labels: Sequence[str] = (),
) -> DatasetRow:
    """Store rows as Parquet under their content hash. The same rows under the same name are the same dataset.

    Raises Conflict if the name stands for other rows.
    """
    found = facts(form, labels, rows)
    known = datasets.by_name(session, name)
    if known is not None:
        if known.content_hash != found.content_hash:
            raise Conflict(f"the dataset {name!r} is there already with other rows: choose another name")
        return known
    file = f"datasets/{found.content_hash}.parquet"
    with TemporaryDirectory() as folder:
        local = Path(folder) / "rows.parquet"
        schema = pa.schema([(column, _TYPES.get(column, pa.string())) for column in ROWS[form]._fields])
        columns = {column: [getattr(row, column) for row in rows] for column in schema.names}
        pq.write_table(pa.table(columns, schema=schema), local)
        files.put(local, file)
    row = DatasetRow(
        name=name,
        title=title,
        content_hash=found.content_hash,
        file=file,
        facts_json=found.model_dump(mode="json"),
    )
    session.add(row)
    session.flush()
    return row
