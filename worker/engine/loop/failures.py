"""Maps an exception to a failure code and a sentence for the person who submitted the run."""

import re
from pathlib import Path

import torch
from torch import nn

from app.domain.failures import Failure, FailureCode, RunFailed
from app.domain.messages import Message, _
from app.domain.resources.ledger import Ledger
from worker.machine import disk

_REQUESTED = re.compile(r"[Tt]ried to allocate (\d[\d.]*) ?(bytes|[KMG]iB)")
_OUT_OF_MEMORY = (
    "can't allocate memory",  # the CPU's allocator
    "CUDA error: out of memory",  # the driver: a context, a kernel's stack, a pinned buffer
    "HIP error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",  # cuBLAS allocates its workspace beside torch's allocator
    "CUSOLVER_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
_UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def failure(
    error: BaseException,
    peak_bytes: int | None = None,
    ledger: Ledger | None = None,
    output: Path | None = None,
    saved_bytes: int | None = None,
) -> Failure:
    """The failure to record for an exception. `peak_bytes`: the attempt's memory peak so far, above its start;
    `ledger`: that of the interrupted step, if it was recorded; `output`: where the attempt writes its files, the
    working directory by default, and `saved_bytes` what it writes there at least, if it is known."""
    if isinstance(error, RunFailed):
        return Failure(code=error.code, message=error.message)
    text = str(error)
    if out_of_memory(error):
        requested = _requested_bytes(text)
        message = _memory_sentence(requested, peak_bytes)
        return Failure(code=FailureCode.OUT_OF_MEMORY, message=message, ledger=ledger, requested_bytes=requested)
    if disk.is_full(error):
        full = disk.full(output or Path(), saved_bytes)
        return Failure(code=full.code, message=full.message)
    first_line = text.strip().split("\n")[0][:500]
    return Failure(code=FailureCode.INTERNAL, message=f"{type(error).__name__}: {first_line}".rstrip(": "))


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out. CUDA's allocator has its own class; Python and numpy raise MemoryError; everything else
    is a RuntimeError that only its text identifies."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and any(phrase in str(error) for phrase in _OUT_OF_MEMORY)
    )


def _requested_bytes(text: str) -> int | None:
    """The size of the allocation that failed, where the allocator's message names it."""
    match = _REQUESTED.search(text)
    return round(float(match[1]) * _UNITS[match[2]]) if match else None


def _memory_sentence(requested: int | None, peak_bytes: int | None) -> Message:
    facts = []
    if requested is not None:
        unit, size = ("MiB", requested / 2**20) if requested >= 2**20 else ("KiB", requested / 2**10)
        facts.append(_("%(size)s %(unit)s more were requested", size=f"{size:,.0f}", unit=unit))
    if peak_bytes is not None:
        facts.append(_("the peak before was %(size)s MiB above the start", size=f"{peak_bytes / 2**20:,.0f}"))
    remedy = _("Use a smaller batch size with gradient accumulation, a shorter max_length, or LoRA.")
    if not facts:
        return _("The device ran out of memory. %(remedy)s", remedy=remedy)
    return _("The device ran out of memory (%(facts)s). %(remedy)s", facts=Message.joined(facts, "; "), remedy=remedy)


def blamed_on_weights(error: RunFailed, base_model: nn.Module) -> RunFailed:
    """The error to raise for a failure before training: `error`, unless it is `diverged` because the base model's
    weights are not finite."""
    if error.code is not FailureCode.DIVERGED:
        return error
    for name, parameter in base_model.named_parameters():
        if parameter.is_floating_point() and not torch.isfinite(parameter).all():
            text = _(
                "The base model's weights contain NaN or infinite values (in %(name)s), before any training. Choose "
                "another revision, or save the model again.",
                name=name,
            )
            return RunFailed(FailureCode.MODEL_UNAVAILABLE, text)
    return error
