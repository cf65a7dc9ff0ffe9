"""Measured memory: the peak bytes of each phase of the attempt.

On CUDA this is the allocator's own count (`max_memory_allocated`, with `max_memory_reserved` beside it). On a CPU it is
the resident set of this process: `VmHWM` of /proc/self/status, the kernel's high-water mark, which is reset to the
present value by writing `5` to /proc/self/clear_refs (man 5 proc), so that each phase has its own peak. Everything is
counted above the value before the model was loaded, that is, without the interpreter and its libraries.

Resident memory follows live tensors only with an allocator setting that costs training up to a third of its speed. So
only the steps with the largest memory are measured (`exact(True)`: the first, and the one with the largest batch); the
others run with a fast allocator, whose free blocks are excluded from every number here.

Weights that transformers maps from a safetensors file count once they are first read; the audit reads all of them
before training. `VmHWM` and not `ru_maxrss`: the latter is inherited from the parent through exec. Without /proc
(macOS) only `ru_maxrss` is available, and each phase shows the largest value so far.
"""

import resource
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from app.domain.resources.ledger import Ledger
from app.domain.runs.result import Memory
from worker.engine.memory import allocator
from worker.engine.models.quantized.quantization import stored
from worker.engine.ranks.sharded import local

_PROC = Path("/proc/self")
_LINUX = (_PROC / "statm").exists()
_PAGE = resource.getpagesize()


def resident_bytes() -> int:
    """Bytes of this process in memory now."""
    if not _LINUX:
        return high_water_bytes()
    return int((_PROC / "statm").read_bytes().split()[1]) * _PAGE


def high_water_bytes() -> int:
    """The peak of this process's memory since the mark was last reset."""
    if not _LINUX:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    for line in (_PROC / "status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return resident_bytes()


def reset_high_water() -> None:
    """Set the high-water mark to the present value; does nothing if that is not permitted."""
    try:
        (_PROC / "clear_refs").write_text("5")
    except OSError:
        return


def tensor_bytes(tensors: Iterable[torch.Tensor]) -> int:
    """Bytes of some tensors, each counted once; of a sharded one, this rank's part."""
    return sum(local(t).numel() * t.element_size() for t in {id(t): t for t in tensors}.values())


class MemoryMeter:
    """Peaks by phase, above what the process held when it was created, or at `begin`."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._cuda = device.type == "cuda"
        self._exact = True
        """Peaks are recorded; always on CUDA, whose allocator counts them."""
        self._phase = "load"
        self._peaks: dict[str, int] = {}
        self._loaded = 0
        self._reserved: dict[str, int] = {}
        self._ranks: list[int] = []
        self.before = self._now()
        self._reset()

    def _now(self) -> int:
        return torch.cuda.memory_allocated(self._device) if self._cuda else resident_bytes()

    def _reset(self) -> None:
        if self._cuda:
            torch.cuda.reset_peak_memory_stats(self._device)
        else:
            reset_high_water()
        self._mark = self._peak()

    def _peak(self) -> int:
        return torch.cuda.max_memory_allocated(self._device) if self._cuda else high_water_bytes()

    def _close(self) -> None:
        if not self._exact:
            return
        peak = self._peak()
        if peak == self._mark:
            # Memory did not exceed the mark. If the mark could not be reset, it is the peak of an earlier phase.
            peak = min(peak, self._now())
        self._peaks[self._phase] = max(self._peaks.get(self._phase, 0), peak - self.before)
        if self._cuda:
            reserved = torch.cuda.max_memory_reserved(self._device)
            self._reserved[self._phase] = max(self._reserved.get(self._phase, 0), reserved)

    def begin(self) -> None:
        """Count from here on, above the present memory of the process."""
        self.before = self._now()
        self._reset()

    def enter(self, phase: str) -> None:
        """Record the peak of the phase that ends and begin another; a phase may be entered several times.

        On CUDA the allocator first returns what the phase has left unused: blocks of its sizes would otherwise count as
        reserved in the next one, and could not serve other sizes.
        """
        self.exact(True)
        self._close()
        if self._cuda and phase != self._phase:
            torch.cuda.empty_cache()
        self._phase = phase
        self._reset()

    def exact(self, enabled: bool) -> None:
        """Measure peaks from here on, or use the fast allocator. Each phase begins measured."""
        if self._cuda or not allocator.ADJUSTABLE or enabled == self._exact:
            return
        if enabled:
            allocator.exact()
            self._exact = True
            self._reset()
        else:
            self._close()
            self._exact = False
            allocator.fast()

    def leave_out(self, since: int) -> None:
        """Exclude what the process has taken since it held so many bytes: it belongs to a library, not to training. On
        CUDA nothing, whose allocator counts tensors only."""
        if not self._cuda:
            self.before += max(0, self.held() - since)

    def held(self) -> int:
        """Bytes of the process now, of which none is free; on CUDA of its tensors."""
        return self._now() - (0 if self._exact or self._cuda else allocator.free_bytes())

    def used(self) -> int:
        """Bytes now, above `before`."""
        return self.held() - self.before

    def peaks(self) -> dict[str, int]:
        """Peak bytes by phase so far, for a checkpoint."""
        self.enter(self._phase)
        return dict(self._peaks)

    def carry(self, peaks: Mapping[str, int]) -> None:
        """Include the peaks of earlier attempts."""
        self._peaks = {phase: max(self._peaks.get(phase, 0), peaks.get(phase, 0)) for phase in {**self._peaks, **peaks}}

    def of_ranks(self, peaks: Sequence[int]) -> None:
        """Include the peaks of training of all processes of the run: the largest decides what it needs."""
        self._ranks = list(peaks)
        self.carry({"train": max(peaks)})

    def peak(self) -> int:
        """Peak bytes so far, above `before`."""
        return max(self._peak() - self.before, *self._peaks.values(), 0)

    def loaded(self) -> None:
        """Record the memory of the model, which is ready to train."""
        self._loaded = self.used()

    def read(self, model: nn.Module, optimizer_bytes: int, ledgers: Sequence[Ledger]) -> Memory:
        """Measured peaks, computed bytes of weights, gradients and optimizer state, and the recorded ledgers."""
        self.enter(self._phase)
        return Memory(
            device=f"cuda:{self._device.index or 0}" if self._cuda else "cpu",
            before_bytes=self.before,
            loaded_bytes=self._loaded,
            peak_bytes=max(self._peaks.values()),
            train_peak_bytes=self._peaks.get("train", 0),
            phase_peak_bytes=self._peaks,
            weights_bytes=tensor_bytes([*(t for p in model.parameters() for t in stored(p)), *model.buffers()]),
            gradients_bytes=tensor_bytes(p for p in model.parameters() if p.requires_grad),
            optimizer_bytes=optimizer_bytes,
            reserved_bytes=max(self._reserved.values()) if self._cuda else None,
            phase_reserved_bytes=self._reserved,
            ledgers=list(ledgers),
            rank_peak_bytes=self._ranks,
        )
