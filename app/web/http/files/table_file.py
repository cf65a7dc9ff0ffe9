"""A table in parts, as a CSV or Parquet file: a small one in memory, a large one in a temporary file."""

from collections.abc import Iterable, Iterator
from io import TextIOWrapper
from tempfile import SpooledTemporaryFile
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq
from fastapi.responses import StreamingResponse

from app.web.http.files.csv_file import write_csv

Ending = Literal["csv", "parquet"]
TYPES: dict[Ending, str] = {"csv": "text/csv", "parquet": "application/vnd.apache.parquet"}
IN_MEMORY = 8 << 20
CHUNK = 1 << 20


def table_file(parts: Iterable[pa.Table], ending: Ending, stem: str) -> StreamingResponse:
    """A download of at least one part; all parts have one schema, and are read before the answer begins."""
    file = SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115 closed when it has been sent
    try:
        (_csv if ending == "csv" else _parquet)(file, parts)
    except BaseException:
        file.close()
        raise
    size = file.tell()
    headers = {
        "Content-Disposition": f'attachment; filename="{stem}.{ending}"',
        "Content-Length": str(size),
        "Cache-Control": "no-cache",
    }
    return StreamingResponse(_sent(file), media_type=TYPES[ending], headers=headers)


def _sent(file: "SpooledTemporaryFile[bytes]") -> Iterator[bytes]:
    with file:
        file.seek(0)
        while block := file.read(CHUNK):
            yield block


def _csv(file: "SpooledTemporaryFile[bytes]", parts: Iterable[pa.Table]) -> None:
    for number, part in enumerate(parts):
        text = TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        if not number:
            write_csv(text, [part.column_names])
        for batch in part.to_batches(max_chunksize=4096):
            write_csv(text, zip(*(column.to_pylist() for column in batch.columns), strict=True))
        text.detach()


def _parquet(file: "SpooledTemporaryFile[bytes]", parts: Iterable[pa.Table]) -> None:
    writer: pq.ParquetWriter | None = None
    for part in parts:
        writer = writer or pq.ParquetWriter(file, part.schema)
        writer.write_table(part)
    if writer is not None:
        writer.close()
