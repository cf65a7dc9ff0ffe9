"""Reads Parquet files in batches. Labels that the datasets library wrote as numbers become their names, and its images
their bytes."""

import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from app.domain.data.guesses.column_names import ROLE_NAMES
from app.domain.messages import Message, _
from worker.ingest.readers.batches import BATCH_CHARACTERS, BATCH_ROWS, Batch, Opened, Source, Unreadable, check_columns

_DECODED_ROWS = 64
_PLAIN = (str, int, float, bool, list, dict, bytes, type(None))


def open_parquet(source: Source) -> Opened:
    """Open a Parquet file. Raises Unreadable if it is damaged or has no readable column."""
    try:
        file = pq.ParquetFile(source.path, buffer_size=1 << 20, pre_buffer=False)  # else all that was read stays
    except MemoryError:  # Arrow's is an ArrowException too, and the file is intact
        raise
    except (pa.ArrowException, OSError) as error:
        raise Unreadable(_damaged(source.name, error)) from error
    schema = file.schema_arrow
    columns = [field.name for field in schema if not _binary(field.type) or field.name.lower() in ROLE_NAMES["image"]]
    if not columns:
        raise Unreadable(_("%(name)s has no column of texts, numbers or lists.", name=source.name))
    check_columns(source.name, columns)
    if not file.metadata.num_rows:
        names = ", ".join(columns)[:200]
        raise Unreadable(_("%(name)s has columns (%(columns)s) but no rows.", name=source.name, columns=names))
    return Opened("parquet", _batches(source, file, columns, _label_names(schema)))


def _batches(source: Source, file: pq.ParquetFile, columns: list[str], names: dict[str, list[str]]) -> Iterator[Batch]:
    size, total, count = source.path.stat().st_size, file.metadata.num_rows, 0
    batch: dict[str, list[Any]] = {column: [] for column in columns}
    length, bytes_ = 0, 0
    try:
        with file:
            for piece in _pieces(file, columns):
                for column in columns:
                    batch[column] += _values(source.name, count + length, piece, column, names.get(column))
                length, bytes_ = length + piece.num_rows, bytes_ + piece.nbytes
                if length >= BATCH_ROWS or bytes_ >= BATCH_CHARACTERS or count + length == total:
                    yield Batch(batch, range(count + 1, count + length + 1))
                    count += length
                    source.tick(size * count // total, count)
                    batch, length, bytes_ = {column: [] for column in columns}, 0, 0
    except MemoryError:  # Arrow's is an ArrowException too, and the file is intact
        raise
    except (pa.ArrowException, OSError) as error:
        damaged = _damaged(source.name, error)
        raise Unreadable(_("%(damaged)s %(rows)s rows could be read.", damaged=damaged, rows=f"{count:,}")) from error


def _pieces(file: pq.ParquetFile, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Decode a few rows at a time, fewer if they are long, so that little is in memory."""
    for batch in file.iter_batches(batch_size=_DECODED_ROWS, columns=columns):
        yield from _halved(batch)


def _halved(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    half = batch.num_rows // 2
    if batch.nbytes <= BATCH_CHARACTERS or not half:
        yield batch
    else:
        yield from _halved(batch.slice(0, half))
        yield from _halved(batch.slice(half))


def _values(name: str, before: int, piece: pa.RecordBatch, column: str, names: list[str] | None) -> list[Any]:
    """The values of a column. Raises Unreadable with the row of a value that cannot be converted."""
    values = piece.column(column)
    try:
        plain = _plain(values.to_pylist(), names)
        return [_without_nulls(value) for value in plain] if "struct<" in str(values.type) else plain
    except (ValueError, OverflowError) as error:
        row = f"{before + 1 + _first_bad(values):,}"
        if isinstance(error, UnicodeDecodeError):
            what = _(
                "%(name)s: row %(row)s has a text in the column %(column)s that is not UTF-8. Write it as UTF-8.",
                name=name,
                row=row,
                column=column,
            )
        else:
            what = _(
                "%(name)s: row %(row)s has a value in the column %(column)s that Python cannot represent (%(why)s). "
                "Leave the column out, or write it as text.",
                name=name,
                row=row,
                column=column,
                why=error,
            )
        raise Unreadable(what) from error


def _first_bad(values: pa.Array) -> int:
    """Position of the first value that cannot be converted."""
    for place, value in enumerate(values):
        try:
            value.as_py()
        except (ValueError, OverflowError):
            return place
    return 0


def _plain(values: list[Any], names: list[str] | None) -> list[Any]:
    """Dates, decimals and the like as texts; label numbers as their names."""
    if names:
        return [names[v] if isinstance(v, int) and 0 <= v < len(names) else None if v == -1 else v for v in values]
    return [_image(v) if isinstance(v, dict) else v if isinstance(v, _PLAIN) else str(v) for v in values]


def _without_nulls(value: Any) -> Any:
    """Objects without the fields that they lack: in Parquet all objects of a column have the same."""
    if isinstance(value, dict):
        return {name: _without_nulls(field) for name, field in value.items() if field is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _image(value: dict[str, Any]) -> Any:
    """The bytes of an image as the datasets library stores it; other objects as they are."""
    return value["bytes"] if value.keys() == {"bytes", "path"} and isinstance(value["bytes"], bytes) else value


def _binary(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind))


def _label_names(schema: pa.Schema) -> dict[str, list[str]]:
    """Label names by column, as the datasets library stores them in the file."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        return {
            str(column): [str(name) for name in facts["names"]]
            for column, facts in features.items()
            if isinstance(facts, dict) and facts.get("_type") == "ClassLabel"
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _damaged(name: str, error: Exception) -> Message:
    reason = str(error).split("\n")[0].split(". ")[0].rstrip(".")
    return _("%(name)s is damaged or truncated and cannot be read as Parquet (%(reason)s).", name=name, reason=reason)
