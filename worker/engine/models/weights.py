"""The weight files of a base model: safetensors under transformers' names, and never a pickle."""

import ctypes
import hashlib
import json
import mmap
from collections.abc import Collection
from pathlib import Path

import torch

from app.domain.failures import FailureCode, RunFailed
from app.domain.messages import Message, _
from worker.engine.models.hub.headers import MOST_BYTES

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""The dtypes in which weights are loaded, by their names in safetensors."""
_PICKLED = {".bin", ".pt", ".pth", ".pkl", ".ckpt", ".msgpack", ".h5"}
_SHOWN = 3
_SAMPLE_BYTES = 65536


def weight_files(directory: Path) -> list[Path]:
    """The safetensors files of a model's directory, sorted."""
    return sorted(directory.glob("*.safetensors"))


def chosen_weights(hub_id: str, folder: Path, names: Collection[str]) -> list[str]:
    """The names of the files that hold the weights, from the index in `folder` if there are several.
    `hub_id` is empty for a directory.

    Raises `RunFailed(model_unavailable)` if there are none, or the index names a missing file.
    """
    if WHOLE in names:
        return [WHOLE]
    if INDEX not in names:
        raise without_weights(hub_id, names)
    try:
        named = sorted(set(json.loads((folder / INDEX).read_bytes())["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunFailed(FailureCode.MODEL_UNAVAILABLE, _("The index of its weights cannot be read.")) from error
    for name in named:
        if name not in names or "/" in name:
            raise RunFailed(
                FailureCode.MODEL_UNAVAILABLE,
                _("The index of its weights names %(name)r, which does not exist.", name=name),
            )
    return named


def stored_dtype(folder: Path, default: torch.dtype = torch.float32) -> torch.dtype:
    """The dtype in which no weight of the files is rounded, by the headers of these: their own if all weights share it,
    else float32. Without readable files the default."""
    dtypes: set[torch.dtype] = set()
    try:
        files = [folder / name for name in chosen_weights("", folder, [path.name for path in folder.iterdir()])]
    except RunFailed:
        files = []  # a hub model that is not downloaded yet
    for file in files:
        dtypes |= {_DTYPES.get(name, torch.float32) for name in _dtypes(file) if name.startswith(("F", "BF"))}
    return default if not dtypes else dtypes.pop() if len(dtypes) == 1 else torch.float32


def _dtypes(file: Path) -> set[str]:
    """Names of the dtypes of a file's tensors; empty for an invalid file, which loading will report."""
    try:
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            header = json.loads(opened.read(min(length, MOST_BYTES)))
        tensors = [entry for name, entry in header.items() if name != "__metadata__"]
        return {str(tensor["dtype"]) for tensor in tensors}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return set()


def refuse_unusable(hub_id: str, names: Collection[str]) -> None:
    """Raise `RunFailed(model_unavailable)` for anything that is not a transformers base model."""
    if "adapter_config.json" in names:
        # transformers would apply the adapter; older versions download whatever base model it names
        text = _("%(place)s contains an adapter. Register its base model instead.", place=_place(hub_id))
    elif "config.json" in names:
        return
    elif any(name.endswith(".gguf") for name in names):
        text = _(
            "%(place)s contains GGUF files, which cannot be trained. Choose the original with safetensors.",
            place=_place(hub_id),
        )
    else:
        text = _("%(place)s has no config.json. Choose a model for transformers.", place=_place(hub_id))
    raise RunFailed(FailureCode.MODEL_UNAVAILABLE, text)


def without_weights(hub_id: str, names: Collection[str]) -> RunFailed:
    pickled = sorted(name for name in names if Path(name).suffix in _PICKLED and "/" not in name)
    if not pickled:
        text = _("%(place)s contains no weights. Save the model again with save_pretrained.", place=_place(hub_id))
    else:
        text = _(
            "%(place)s contains no .safetensors file, only pickled weights (%(names)s), which can run code. Save the "
            "model again with save_pretrained(safe_serialization=True).",
            place=_place(hub_id),
            names=", ".join(pickled[:_SHOWN]) + (", …" if len(pickled) > _SHOWN else ""),
        )
    return RunFailed(FailureCode.MODEL_UNAVAILABLE, text)


def _place(hub_id: str) -> Message:
    return _("The hub's %(id)s", id=hub_id) if hub_id else _("The base model's directory")


def fingerprint(directory: Path) -> str:
    """A hash that identifies a directory's model: SHA-256 of config.json and, of each safetensors file, its name, size
    and header (every tensor's name, dtype and offsets), and 64 KiB from its start, middle and end.

    Cheap at any size. It misses files that differ only elsewhere; a training step changes every part.
    """
    digest = hashlib.sha256((directory / "config.json").read_bytes())
    for path in weight_files(directory):
        size = path.stat().st_size
        digest.update(json.dumps([path.name, size]).encode())
        with path.open("rb") as file:
            header = min(int.from_bytes(file.read(8), "little"), size, MOST_BYTES)
            digest.update(file.read(header))
            for start in (8 + header, size // 2, max(0, size - _SAMPLE_BYTES)):
                file.seek(start)
                digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()


_MAPS = Path("/proc/self/maps")


class MappedFiles:
    """The safetensors files that this process has mapped privately; none where there is no /proc.

    transformers maps a safetensors file as a whole and returns tensors that view it. A page that was read stays
    resident until the last of these tensors is freed, even if the tensor that it was read for was replaced long
    before; `release` returns it earlier (man 2 madvise).
    """

    def __init__(self) -> None:
        lines = _MAPS.read_text().splitlines() if _MAPS.exists() else []
        spans = [line.split()[0].split("-") for line in lines if line.endswith(".safetensors")]
        self._spans = [(int(start, 16), int(end, 16)) for start, end in spans]
        self._madvise = ctypes.CDLL(None, use_errno=True).madvise if self._spans else None

    def hold(self, tensor: torch.Tensor) -> bool:
        """Whether a contiguous tensor lies in one of the files."""
        if tensor.device.type != "cpu":
            return False
        start, end = tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes
        return any(low <= start and end <= high for low, high in self._spans)

    def release(self, tensor: torch.Tensor) -> None:
        """Release the whole pages of a contiguous tensor, if they belong to a file. The tensor must be unmodified: its
        next read returns the file's values."""
        if self._madvise is None or not self.hold(tensor):
            return
        start, end = tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes
        start, end = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE, end // mmap.PAGESIZE * mmap.PAGESIZE
        if start < end:
            self._madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), ctypes.c_int(mmap.MADV_DONTNEED))
