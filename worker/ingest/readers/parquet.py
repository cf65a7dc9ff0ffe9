"""Parquet files, some rows at a time. Labels that the datasets library wrote as numbers come with their names."""

import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from worker.ingest.readers.batches import BATCH_CHARACTERS, BATCH_ROWS, Batch, Opened, Source, Unreadable, check_columns

_DECODED_ROWS = 64
_PLAIN = (str, int, float, bool, list, dict, type(None))


def open_parquet(source: Source) -> Opened:
    """A Parquet file. Raises Unreadable if it is damaged or has no column to read."""
    try:
        file = pq.ParquetFile(source.path, buffer_size=1 << 20)
    except MemoryError:  # Arrow's is an ArrowException as well, and the file is whole
        raise
    except (pa.ArrowException, OSError) as error:
        raise Unreadable(_damaged(source.name, error)) from error
    schema = file.schema_arrow
    columns = [field.name for field in schema if not _binary(field.type)]
    if not columns:
        raise Unreadable(f"{source.name} has no column of texts, numbers or lists.")
    check_columns(source.name, columns)
    if not file.metadata.num_rows:
        raise Unreadable(f"{source.name} has columns ({', '.join(columns)[:200]}) and no rows.")
    return Opened("parquet", _batches(source, file, columns, _label_names(schema)))


def _batches(source: Source, file: pq.ParquetFile, columns: list[str], names: dict[str, list[str]]) -> Iterator[Batch]:
    size, total, count = source.path.stat().st_size, file.metadata.num_rows, 0
    found: dict[str, list[Any]] = {column: [] for column in columns}
    bytes_ = 0
    try:
        with file:
            for piece in _pieces(file, columns):
                held = len(found[columns[0]])
                for column in columns:
                    found[column] += _values(source.name, count + held, piece, column, names.get(column))
                held, bytes_ = held + piece.num_rows, bytes_ + piece.nbytes
                if held >= BATCH_ROWS or bytes_ >= BATCH_CHARACTERS or count + held == total:
                    yield Batch(found, range(count + 1, count + held + 1))
                    count += held
                    source.tick(size * count // total, count)
                    found, bytes_ = {column: [] for column in columns}, 0
    except MemoryError:  # Arrow's is an ArrowException as well, and the file is whole
        raise
    except (pa.ArrowException, OSError) as error:
        raise Unreadable(f"{_damaged(source.name, error)} {count:,} rows could be read.") from error


def _pieces(file: pq.ParquetFile, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Some rows at a time, fewer where they are long: what is decoded is small, whatever the lengths."""
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
    """Of a column. Raises Unreadable with the row for a value that cannot be a text."""
    values = piece.column(column)
    try:
        return _plain(values.to_pylist(), names)
    except (ValueError, OverflowError) as error:
        row = before + 1 + _first_bad(values)
        what = f"a value that Python has no place for ({error})"
        remedy = "leave the column out, or write it as a text"
        if isinstance(error, UnicodeDecodeError):
            what, remedy = "a text that is not UTF-8", "write it as one"
        raise Unreadable(f"{name}: row {row:,} has in the column {column} {what}: {remedy}.") from error


def _first_bad(values: pa.Array) -> int:
    """Place of the first value that cannot be had."""
    for place, value in enumerate(values):
        try:
            value.as_py()
        except (ValueError, OverflowError):
            return place
    return 0


def _plain(values: list[Any], names: list[str] | None) -> list[Any]:
    """Dates, decimals and the like as texts; numbers of labels as their names."""
    if names:
        return [names[v] if isinstance(v, int) and 0 <= v < len(names) else None if v == -1 else v for v in values]
    return [v if isinstance(v, _PLAIN) else str(v) for v in values]


def _binary(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind))


def _label_names(schema: pa.Schema) -> dict[str, list[str]]:
    """By column, as the datasets library notes them in the file."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        return {
            str(column): [str(name) for name in facts["names"]]
            for column, facts in features.items()
            if isinstance(facts, dict) and facts.get("_type") == "ClassLabel"
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _damaged(name: str, error: Exception) -> str:
    reason = str(error).split("\n")[0].split(". ")[0].rstrip(".")
    return f"{name} is damaged or cut short and cannot be read as Parquet ({reason})."
