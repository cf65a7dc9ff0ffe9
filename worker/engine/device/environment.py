"""The device and libraries of an attempt: chosen once, reported with its numbers."""

import hashlib
import os
import platform
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import torch
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from app.domain.errors import first_line
from app.domain.failures import FailureCode, RunFailed
from app.domain.messages import _
from app.domain.resources.speed import DeviceRates
from app.domain.runs.result import Environment

_PACKAGES = ("torch", "transformers", "peft", "vezna")


def choose_device(choice: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """The device to train on; CUDA is initialized, because the allocator's counters refuse a device before that.

    Raises `RunFailed(bad_configuration)` if CUDA is requested but absent, or present but unusable.
    """
    if choice == "cuda" and not torch.cuda.is_available():
        raise RunFailed(FailureCode.BAD_CONFIGURATION, _("The run needs a CUDA device, and this worker has none."))
    if choice == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        why = first_line(error)
        text = _("The worker's CUDA device cannot be used (%(why)s). Restart the worker when it is repaired.", why=why)
        raise RunFailed(FailureCode.BAD_CONFIGURATION, text) from error
    return torch.device("cuda:0")


def prepare(threads: int | None) -> None:
    """Configure this process to be deterministic: the same seed on the same CPU gives bit-identical numbers.

    On CUDA this is not promised: deterministic kernels are used where torch has them, but cuBLAS may split sums
    differently, and memory-efficient attention has no deterministic backward pass. Seeds fix initial weights, order and
    dropout there too, so numbers differ by rounding, which training amplifies. transformers' progress bars and
    its table of newly initialized weights are disabled: the run's own log has the same information.
    """
    disable_progress_bar()  # type: ignore[no-untyped-call]
    set_verbosity_error()  # type: ignore[no-untyped-call]
    if threads is not None:
        torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # It would fill every new tensor, to make reads of uninitialized memory reproducible; there are none here.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def computes_in_bf16(device: torch.device) -> bool:
    """Whether the device computes bfloat16 natively, instead of converting to float32 and back."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported())


def describe(
    device: torch.device,
    bf16: bool,
    frozen_dtype: Literal["float32", "bfloat16", "nf4"],
    attention: str,
    rates: DeviceRates = DeviceRates(),  # noqa: B008 immutable
    padding_mask: bool = True,
    processes: int = 1,
) -> Environment:
    """The environment of an attempt; `attention` is transformers' name of it, `rates` the result of
    `device_rates`, `processes` their number."""
    return Environment(
        device=str(device),
        device_name=device_name(device, processes),
        threads=torch.get_num_threads(),
        precision="bf16" if bf16 else "fp32",
        frozen_dtype=frozen_dtype,
        attention=attention,
        padding_mask=padding_mask,
        matmul_flops=rates.peak,
        matmul_rates=dict(rates.by_width),
        call_rate=rates.calls,
        byte_rate=rates.bytes,
        versions=versions(),
        code=source_hash(),
    )


def versions() -> dict[str, str]:
    """Versions of Python, the libraries and Vezna."""
    return {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}}


@lru_cache(maxsize=1)
def source_hash() -> str:
    """SHA-256 of Vezna's source files, as they are on this worker: of the lines that `sha256sum` prints for every .py
    file of `app` and `worker`, in the order of their bytes. A version or a commit would not tell of local changes."""
    root = Path(__file__).parents[3]
    names = [str(path.relative_to(root)) for part in ("app", "worker") for path in (root / part).rglob("*.py")]
    lines = (f"{hashlib.sha256((root / name).read_bytes()).hexdigest()}  {name}\n" for name in sorted(names))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def device_name(device: torch.device, processes: int = 1) -> str:
    """The GPU's name, or the processor's; of several it says how many, so that no time or memory of theirs is taken for
    that of one: `2 × NVIDIA L4`."""
    if device.type == "cuda":
        name: str = torch.cuda.get_device_name(device)
        return name if processes == 1 else f"{processes} × {name}"
    return _processor() if processes == 1 else f"{processes} processes on {_processor()}"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return f"{line.partition(':')[2].strip()}, {os.cpu_count()} CPUs"
    return platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
