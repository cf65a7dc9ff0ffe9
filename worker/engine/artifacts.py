"""The files that an attempt leaves in its output directory."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from app.domain.metrics import ArtifactFile
from worker.engine.data import Examples
from worker.engine.evaluate import Predictions

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
    """One row a test item: `item`, `text`, `label` (the true one), `base_prediction` (untouched model),
    `prediction` (adapted model), `scores` (the adapted model's probability of each label). Labels by index; their
    names are in the file's metadata under `labels`."""
    table = pa.table(
        {
            "item": [row.item for row in examples.rows],
            "text": [row.text for row in examples.rows],
            "label": pa.array(adapted.labels, pa.int32()),
            "base_prediction": pa.array(base.predicted, pa.int32()),
            "prediction": pa.array(adapted.predicted, pa.int32()),
            "scores": pa.array(list(adapted.probabilities), pa.list_(pa.float32())),
        }
    )
    names = "\n".join(labels)
    pq.write_table(table.replace_schema_metadata({"labels": names}), file)


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
