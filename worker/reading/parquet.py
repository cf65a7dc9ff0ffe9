"""Parquet files, some rows at a time. Labels that the datasets library wrote as numbers come with their names."""

import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from worker.reading.batches import BATCH_ROWS, Batch, Opened, Source, Unreadable, check_columns

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
    try:
        with file:
            for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=columns):
                found = {column: _plain(batch.column(column).to_pylist(), names.get(column)) for column in columns}
                yield Batch(found, range(count + 1, count + batch.num_rows + 1))
                count += batch.num_rows
                source.tick(size * count // total, count)
    except MemoryError:  # Arrow's is an ArrowException as well, and the file is whole
        raise
    except UnicodeDecodeError as error:
        raise Unreadable(f"{_among(source.name, count)} a text that is not UTF-8: write it as one.") from error
    except (pa.ArrowException, OSError) as error:
        raise Unreadable(f"{_damaged(source.name, error)} {count:,} rows could be read.") from error
    except (ValueError, OverflowError) as error:  # of dates
        what = f"a value that Python has no place for ({error})"
        remedy = "leave its column out, or write it as a text"
        raise Unreadable(f"{_among(source.name, count)} {what}: {remedy}.") from error


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


def _among(name: str, count: int) -> str:
    return f"{name}: among the {BATCH_ROWS:,} rows from row {count + 1:,} on is"


def _damaged(name: str, error: Exception) -> str:
    reason = str(error).split("\n")[0].split(". ")[0].rstrip(".")
    return f"{name} is damaged or cut short and cannot be read as Parquet ({reason})."
