"""What a host holds while a base model is loaded, foreseen from the headers of its files.

transformers maps the files. A tensor in float32 stays where it lies, and costs nothing before something reads it. One
of another type is read and converted into float32, the whole model before any of it is rounded again; its pages stay
resident until the files are closed. So a model of N numbers that is stored in bfloat16 takes 4·N + 2·N bytes for a
moment, whatever it is held in afterwards.
"""

import json
from pathlib import Path
from typing import NamedTuple

import torch
from transformers import PreTrainedConfig

from app.domain.failures import RunFailed
from worker.engine.models.weights import chosen_weights

_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1}
"""Of a number, by its type as safetensors names it; others are no weights."""
_PACKED = 0.516
"""Bytes of a number in NF4, with its share of the scales (`worker.engine.models.quantization`)."""


class Stored(NamedTuple):
    """Weights as they lie in their files, by whether they are converted as they are read."""

    mapped_bytes: int
    """In float32."""
    converted_bytes: int
    """In another type."""
    converted_numbers: int


def stored(folder: Path | None, dtype: torch.dtype | None, numbers: int) -> Stored:
    """Of a directory with weights; where there are none, as the type in its configuration says of so many numbers.

    An extra head in the files is counted though nobody reads it.
    """
    found = dict.fromkeys(_BYTES, 0)
    for file in _files(folder) if folder else ():
        for kind, size in _header(file):
            found[kind] = found.get(kind, 0) + size
    if not any(found.values()):
        kind = "F32" if dtype in (None, torch.float32) else "F64" if dtype is torch.float64 else "BF16"
        found[kind] = numbers * _BYTES[kind]
    others = {kind: size for kind, size in found.items() if kind in _BYTES and kind != "F32"}
    converted = sum(size // _BYTES[kind] for kind, size in others.items())
    return Stored(found["F32"], sum(others.values()), converted)


def loading_bytes(files: Stored, whole: int, held: int, packed: int, *, rounded: bool) -> int:
    """The most while a model is loaded on a CPU and brought to what it is held in.

    `whole` and `held`: its bytes in float32, and as it is held with its method; `packed`: how many numbers are held in
    four bits; `rounded`: frozen matrices are rounded to bfloat16, one by one.
    """
    if packed:  # each matrix is read, packed and forgotten, but for its pages
        others = whole - 4 * packed if files.converted_bytes else 0
        return files.mapped_bytes + files.converted_bytes + max(held, others + int(_PACKED * packed))
    copies = 4 * files.converted_numbers + files.converted_bytes
    return max(held, copies, 0 if rounded else whole)


def type_of(config: PreTrainedConfig) -> torch.dtype | None:
    """Of the weights in their files, as a configuration says that no model was built from yet: that would set it."""
    found = getattr(config, "dtype", None)
    return found if isinstance(found, torch.dtype) else None


def _files(folder: Path) -> list[Path]:
    names = [path.name for path in folder.iterdir()]
    try:
        return [folder / name for name in chosen_weights("the base model's directory", folder, names)]
    except RunFailed:
        return []  # a hub's model that is not downloaded yet


def _header(file: Path) -> list[tuple[str, int]]:
    """Type and bytes of each tensor; nothing of a file that is none, which loading will say."""
    try:
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            header = json.loads(opened.read(min(length, file.stat().st_size)))
        tensors = [entry for name, entry in header.items() if name != "__metadata__"]
        return [(str(t["dtype"]), int(t["data_offsets"][1]) - int(t["data_offsets"][0])) for t in tensors]
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError):
        return []
