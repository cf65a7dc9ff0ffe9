"""The files that an attempt writes to its output directory."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from app.domain.models import exports
from app.domain.runs.result import ArtifactFile
from worker.engine.data.batches.batches import Examples
from worker.engine.evaluation.evaluate import Predictions

Kind = Literal["adapter", "model", "predictions", "metrics", "log"]
_KINDS: dict[str, Kind] = {
    "adapter": "adapter",
    "model": "model",
    "predictions.parquet": "predictions",
    "metrics.jsonl": "metrics",
}
"""The kind of artifact, by the first part of its name."""


def write_predictions(
    file: Path, examples: Examples, labels: Sequence[str], base: Predictions, adapted: Predictions
) -> None:
    """Write one row per test item: the dataset's columns without images; the outputs of the base model (`base_…`) and
    of the adapted one; and every per-item metric. Labels are indices; the file's metadata lists their names under
    `labels`."""
    left_out = ("split", "image")
    fields = [name for name in examples.items[0]._fields if name not in left_out]
    columns: dict[str, Sequence[Any]] = {name: [getattr(row, name) for row in examples.items] for name in fields}
    for prefix, predictions in (("base_", base), ("", adapted)):
        columns |= {f"{prefix}{name}": values for name, values in predictions.columns.items()}
        columns |= {f"{prefix}{name}": values.tolist() for name, values in predictions.per_item.items()}
    names = "\n".join(labels)
    pq.write_table(pa.table(columns).replace_schema_metadata({"labels": names}), file)


def collect(output: Path) -> list[ArtifactFile]:
    """Every file of the output directory with its size and SHA-256, sorted by name."""
    files = []
    for path in sorted(output.rglob("*")):
        name = path.relative_to(output)
        if path.is_file() and name.parts[0] in _KINDS:
            kind = _KINDS[name.parts[0]]
            size = path.stat().st_size
            files.append(ArtifactFile(name=name.as_posix(), kind=kind, bytes=size, sha256=sha256_of(path)))
    return files


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_TYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""The names that safetensors uses."""


def file_bytes(tensors: Mapping[str, torch.Tensor]) -> int:
    """Bytes on disk of `save_file(tensors, file, metadata={"format": "pt"})`; the tensors may be fake or on `meta`."""
    return exports.file_bytes(
        exports.StoredTensor(name, tuple(tensor.shape), _TYPES[tensor.dtype], 8 * tensor.element_size())
        for name, tensor in tensors.items()
    )
