"""Datasets: make rows known under a name."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy.orm import Session

from app.domain.datasets import Row, Task, facts
from app.domain.errors import Conflict
from app.store.files import Files
from app.store.queries import datasets
from app.store.tables import DatasetRow

SCHEMA = pa.schema([("item", pa.string()), ("split", pa.string()), ("text", pa.string()), ("label", pa.int32())])


def register(
    session: Session, files: Files, *, name: str, title: str, task: Task, labels: Sequence[str], rows: Sequence[Row]
) -> DatasetRow:
    """Store rows as Parquet under their content hash. The same rows under the same name are the same dataset.

    Raises Conflict if the name stands for other rows.
    """
    found = facts(task, labels, rows)
    known = datasets.by_name(session, name)
    if known is not None:
        if known.content_hash != found.content_hash:
            raise Conflict(f"the dataset {name!r} is there already with other rows: choose another name")
        return known
    file = f"datasets/{found.content_hash}.parquet"
    with TemporaryDirectory() as folder:
        local = Path(folder) / "rows.parquet"
        columns = {field: [getattr(row, field) for row in rows] for field in Row._fields}
        pq.write_table(pa.table(columns, schema=SCHEMA), local)
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
