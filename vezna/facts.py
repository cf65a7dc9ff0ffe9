"""What a script states of its training, read from the process and the model without importing what the script has not
imported itself."""

import hashlib
import os
import platform
import sys
from collections.abc import Mapping
from enum import Enum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

LIBRARIES = ("torch", "transformers", "peft", "accelerate", "trl", "sentence-transformers", "unsloth", "datasets")
MOST_HASHED_BYTES = 2 << 30
"""Bytes of weights that are hashed in memory, where no file of them is known."""
ALLOCATED, RESIDENT = "allocated on the device", "resident in the process, at its peak"


def of_process() -> dict[str, Any]:
    versions = {}
    for name in LIBRARIES:
        if name.replace("-", "_") in sys.modules:
            try:
                versions[name] = version(name)
            except PackageNotFoundError:
                continue
    environment = {
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpus": str(os.cpu_count() or ""),
    }
    torch = sys.modules.get("torch")
    device = platform.processor() or platform.machine()
    if torch is not None:
        environment["threads"] = str(torch.get_num_threads())
        if torch.cuda.is_available():
            device = torch.cuda.get_device_name()
            environment |= {"cuda": str(torch.version.cuda), "gpus": str(torch.cuda.device_count())}
    return {"versions": versions, "environment": environment, "device": device}


class PeakMemory:
    """The peak of the memory while a run is tracked."""

    def __init__(self) -> None:
        torch = sys.modules.get("torch")
        self._cuda = torch.cuda if torch is not None and torch.cuda.is_available() else None
        if self._cuda is not None:
            self._cuda.reset_peak_memory_stats()
        self._before = _resident()

    def facts(self) -> dict[str, Any]:
        """The peak and how it was measured; nothing where an earlier peak of the process hides it."""
        if self._cuda is not None:
            return {"peak_bytes": int(self._cuda.max_memory_allocated()), "memory_measure": ALLOCATED}
        after = _resident()
        return {"peak_bytes": after, "memory_measure": RESIDENT} if after > self._before else {}


def _resident() -> int:
    """The highest resident memory of the process so far, in bytes; 0 where the system does not tell."""
    try:
        import resource  # noqa: PLC0415  Windows has none
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)


def of_model(model: Any) -> dict[str, Any]:
    """Name and hash of the base model, numbers of parameters, precision, and PEFT's configuration. Where
    several processes train, each may hold a part of the weights, so these are not counted or gathered. A model of
    sentence-transformers is known by its encoder."""
    inner = getattr(model, "transformers_model", None) or model
    base = inner.get_base_model() if hasattr(inner, "get_base_model") else inner
    config = getattr(base, "config", None)
    name = str(getattr(config, "_name_or_path", "") or "")
    parameters, together = list(model.parameters()), _trains_together()
    facts: dict[str, Any] = {}
    if not together:
        facts["trainable_parameters"] = sum(p.numel() for p in parameters if p.requires_grad)
        facts["total_parameters"] = sum(p.numel() for p in parameters)
    if parameters:
        facts["precision"] = {"bfloat16": "bf16", "float16": "fp16"}.get(
            str(parameters[0].dtype).split(".")[-1], "fp32"
        )
    if name:
        facts["base_model"] = (Path(name).name if Path(name).is_dir() else name)[:200]
    adapters = getattr(inner, "peft_config", None)
    adapters = adapters if isinstance(adapters, Mapping) else {}
    hashed = _hash_of_files(name, getattr(config, "_commit_hash", None))
    if not hashed and not together:
        hashed = _hash_of_backbone(base, {*adapters, "modules_to_save"})
    if hashed:
        facts["base_model_hash"] = hashed
    if adapters:
        peft = {adapter: plain(adapter_config.to_dict()) for adapter, adapter_config in adapters.items()}
        facts["settings"] = {"peft": peft["default"] if set(peft) == {"default"} else peft}
    return facts


def plain(value: Any) -> Any:
    """A configuration as JSON: without empty values, sets in order, numbers that are not finite as text."""
    if isinstance(value, Mapping):
        cleaned = {str(name): plain(inner) for name, inner in value.items()}
        return {name: inner for name, inner in cleaned.items() if inner not in (None, "", [], {})}
    if isinstance(value, Enum):
        return plain(value.value)
    if hasattr(value, "tolist"):  # of NumPy or torch
        return plain(value.tolist())
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if abs(value) < float("inf") else str(value)
    return str(value)


def _trains_together() -> bool:
    """Whether this process is one of several that train."""
    torch = sys.modules.get("torch")
    together = torch is not None and torch.distributed.is_available() and torch.distributed.is_initialized()
    processes = torch.distributed.get_world_size() if torch is not None and together else 1
    return max(processes, int(os.environ.get("WORLD_SIZE") or 1)) > 1


def _hash_of_files(name: str, revision: str | None) -> str:
    """Hash of the weight files of a directory, or of the hub's cache, whose files are named by their SHA-256; empty
    without any."""
    folder = Path(name) if name and Path(name).is_dir() else _snapshot(name, revision)
    files = [] if folder is None else sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    files = [file for file in files if file.name != "adapter_model.safetensors"]
    if not files:
        return ""
    return hashlib.sha256("\n".join(map(_digest, files)).encode()).hexdigest()


def _snapshot(name: str, revision: str | None) -> Path | None:
    hub = sys.modules.get("huggingface_hub")
    found = hub.try_to_load_from_cache(name, "config.json", revision=revision) if hub is not None and name else None
    return Path(found).parent if isinstance(found, str) else None


def _digest(file: Path) -> str:
    blob = file.resolve().name
    if len(blob) == 64 and all(c in "0123456789abcdef" for c in blob):
        return blob
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _hash_of_backbone(base: Any, added: set[str]) -> str:
    """Hash of the weights without head and adapters, as they are now; empty for a model that is too large for it.
    `added` are parts of the names of what PEFT added."""
    backbone = getattr(base, "base_model", base)
    weights = {}
    for name, tensor in backbone.state_dict().items():
        parts = name.split(".")
        if not added & set(parts):
            weights[".".join(part for part in parts if part not in ("base_layer", "original_module"))] = tensor
    if sum(tensor.numel() * tensor.element_size() for tensor in weights.values()) > MOST_HASHED_BYTES:
        return ""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(weights[name].detach().cpu().contiguous().flatten().view(sys.modules["torch"].uint8).numpy().data)
    return digest.hexdigest()
