"""The host memory of loading a base model, estimated from the headers of its files.

transformers maps the files. A float32 tensor stays in the mapping, and takes no memory until it is read. A tensor of
another dtype is read and converted to float32, the whole model before any of it is rounded again; its pages stay
resident until the files are closed. So a model of N values stored in bfloat16 briefly takes 4·N + 2·N bytes, whatever
its final dtype.
"""

import json
from pathlib import Path
from typing import NamedTuple

import torch
from transformers import PreTrainedConfig

from app.domain.failures import RunFailed
from worker.engine.models.weights import chosen_weights

_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1}
"""Bytes per value, by safetensors' dtype names; other dtypes are no weights."""
_PACKED = 0.516
"""Bytes per value in NF4, with its share of the scales (`worker.engine.models.quantization`)."""


class Stored(NamedTuple):
    """Bytes of the weights in their files, by whether they are converted on loading."""

    mapped_bytes: int
    """Weights in float32."""
    converted_bytes: int
    """Weights in another dtype."""
    converted_numbers: int


def stored(folder: Path | None, dtype: torch.dtype | None, numbers: int) -> Stored:
    """The stored weights of a directory; without files, this many values in the configuration's dtype.

    An extra head in the files is counted although it is not read.
    """
    sizes = dict.fromkeys(_BYTES, 0)
    for file in _files(folder) if folder else ():
        for kind, size in _header(file):
            sizes[kind] = sizes.get(kind, 0) + size
    if not any(sizes.values()):
        kind = "F32" if dtype in (None, torch.float32) else "F64" if dtype is torch.float64 else "BF16"
        sizes[kind] = numbers * _BYTES[kind]
    converted_sizes = {kind: size for kind, size in sizes.items() if kind in _BYTES and kind != "F32"}
    converted = sum(size // _BYTES[kind] for kind, size in converted_sizes.items())
    return Stored(sizes["F32"], sum(converted_sizes.values()), converted)


def loading_bytes(files: Stored, float32: int, final: int, packed: int, *, rounded: bool) -> int:
    """Peak bytes while a model is loaded on a CPU and converted to its final dtype.

    `float32` and `final`: its bytes in float32, and in its final form with its method; `packed`: how many values are
    quantized to four bits; `rounded`: frozen matrices are cast to bfloat16, one by one.
    """
    if packed:  # each matrix is read, quantized and freed, except for its pages
        unpacked = float32 - 4 * packed if files.converted_bytes else 0
        return files.mapped_bytes + files.converted_bytes + max(final, unpacked + int(_PACKED * packed))
    copies = 4 * files.converted_numbers + files.converted_bytes
    return max(final, copies, 0 if rounded else float32)


def type_of(config: PreTrainedConfig) -> torch.dtype | None:
    """The dtype of the stored weights, from a configuration that no model was built from yet: building would set it."""
    dtype = getattr(config, "dtype", None)
    return dtype if isinstance(dtype, torch.dtype) else None


def _files(folder: Path) -> list[Path]:
    names = [path.name for path in folder.iterdir()]
    try:
        return [folder / name for name in chosen_weights("", folder, names)]
    except RunFailed:
        return []  # a hub model that is not downloaded yet


def _header(file: Path) -> list[tuple[str, int]]:
    """Dtype and bytes of each tensor; empty for an invalid file, which loading will report."""
    try:
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            header = json.loads(opened.read(min(length, file.stat().st_size)))
        tensors = [entry for name, entry in header.items() if name != "__metadata__"]
        return [(str(t["dtype"]), int(t["data_offsets"][1]) - int(t["data_offsets"][0])) for t in tensors]
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError):
        return []
