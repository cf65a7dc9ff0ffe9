"""A CUDA device without a GPU: it counts memory as torch's allocator does, and refuses what the real one refuses."""

from dataclasses import dataclass, field

import pytest
import torch

_FUNCTIONS = (
    "Event",
    "empty_cache",
    "init",
    "is_available",
    "max_memory_allocated",
    "max_memory_reserved",
    "memory_allocated",
    "reset_peak_memory_stats",
    "synchronize",
)


@dataclass
class FakeCuda:
    """Bytes that are allocated and reserved; `install` puts it in the place of `torch.cuda`'s functions."""

    problem: str = ""
    """What `init` raises."""
    initialized: bool = False
    allocated: int = 0
    reserved: int = 0
    peaks: list[int] = field(default_factory=lambda: [0, 0])
    """Of allocated and reserved bytes."""
    synchronized: int = 0
    """How often the host waited for the device."""
    seconds: float = 0.0
    """The device's own clock; a test advances it."""
    finished: float = 0.0
    """It has finished what was queued until then."""

    def install(self, monkeypatch: pytest.MonkeyPatch) -> "FakeCuda":
        """Answer for `torch.cuda` until the test ends."""
        for name in _FUNCTIONS:
            monkeypatch.setattr(torch.cuda, name, getattr(self, name))
        return self

    def allocate(self, size: int) -> None:
        """Take bytes from what is reserved, and reserve more if that is not enough."""
        self.allocated += size
        self.reserved = max(self.reserved, self.allocated)
        self.peaks = [max(self.peaks[0], self.allocated), max(self.peaks[1], self.reserved)]

    def free(self, size: int) -> None:
        """Give bytes back to the allocator, which keeps them reserved."""
        self.allocated -= size

    def is_available(self) -> bool:
        """torch was built with CUDA and sees a driver."""
        return True

    def init(self) -> None:
        """Create the context."""
        if self.problem:
            raise RuntimeError(self.problem)
        self.initialized = True

    def empty_cache(self) -> None:
        """Return what is reserved and not allocated to the driver."""
        self.reserved = self.allocated

    def reset_peak_memory_stats(self, device: torch.device) -> None:
        """As torch 2.13 does, it refuses every device before CUDA is initialized."""
        if not self.initialized:
            raise RuntimeError("Invalid device argument 0: did you call init?")
        self.peaks = [self.allocated, self.reserved]

    def memory_allocated(self, device: torch.device) -> int:
        """Bytes of live tensors."""
        return self.allocated

    def max_memory_allocated(self, device: torch.device) -> int:
        """Their peak since the reset."""
        return self.peaks[0]

    def max_memory_reserved(self, device: torch.device) -> int:
        """The peak of the allocator's segments since the reset."""
        return self.peaks[1]

    def synchronize(self, device: torch.device | None = None) -> None:
        """Wait for queued kernels."""
        self.synchronized += 1
        self.finished = self.seconds

    def Event(self, enable_timing: bool = False) -> "FakeEvent":
        """A mark in the queue of kernels."""
        return FakeEvent(self, enable_timing)


@dataclass
class FakeEvent:
    """The moment on the device at which its place in the queue is reached."""

    cuda: FakeCuda
    timed: bool
    at: float | None = None

    def record(self) -> None:
        """Take the place behind what is queued."""
        self.at = self.cuda.seconds

    def elapsed_time(self, later: "FakeEvent") -> float:
        """Milliseconds; as torch does, it refuses an event that is not recorded, not timed or not reached."""
        if self.at is None or later.at is None or not (self.timed and later.timed):
            raise ValueError("Both events must be recorded before calculating elapsed time.")
        if later.at > self.cuda.finished:
            raise RuntimeError("CUDA error: device not ready")
        return (later.at - self.at) * 1000
