"""The files that an attempt leaves in its output directory."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from app.domain.runs.result import ArtifactFile
from worker.engine.data.batches import Examples
from worker.engine.evaluation.evaluate import Predictions

Kind = Literal["adapter", "model", "predictions", "metrics", "log"]
_KINDS: dict[str, Kind] = {
    "adapter": "adapter",
    "model": "model",
    "predictions.parquet": "predictions",
    "metrics.jsonl": "metrics",
}
"""By the first part of the name."""


def write_predictions(
    file: Path, examples: Examples, labels: Sequence[str], base: Predictions, adapted: Predictions
) -> None:
    """One row a test item: the dataset's own columns; what the untouched model (`base_…`) and the adapted one made of
    it, as the task says; and every metric that has a value an item. Labels are indices; their names are in the file's
    metadata under `labels`."""
    fields = [name for name in examples.rows[0]._fields if name != "split"]
    columns: dict[str, Sequence[Any]] = {name: [getattr(row, name) for row in examples.rows] for name in fields}
    for prefix, predictions in (("base_", base), ("", adapted)):
        columns |= {f"{prefix}{name}": values for name, values in predictions.columns.items()}
        columns |= {f"{prefix}{name}": values.tolist() for name, values in predictions.per_item.items()}
    names = "\n".join(labels)
    pq.write_table(pa.table(columns).replace_schema_metadata({"labels": names}), file)


def collect(output: Path) -> list[ArtifactFile]:
    """Every file of the output directory with its size on disk and its SHA-256, in order of name."""
    found = []
    for path in sorted(output.rglob("*")):
        name = path.relative_to(output)
        if path.is_file() and name.parts[0] in _KINDS:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            kind = _KINDS[name.parts[0]]
            found.append(ArtifactFile(name=name.as_posix(), kind=kind, bytes=path.stat().st_size, sha256=digest))
    return found
