"""Release the memory of mapped weight files before the mapping ends (man 2 madvise).

transformers maps a safetensors file as a whole and returns tensors that view it. A page that was read stays resident
until the last of these tensors is freed, even if the tensor that it was read for was replaced long before.
"""

import ctypes
import mmap
from pathlib import Path

import torch

_MAPS = Path("/proc/self/maps")


class MappedFiles:
    """The safetensors files that this process has mapped privately; none where there is no /proc."""

    def __init__(self) -> None:
        lines = _MAPS.read_text().splitlines() if _MAPS.exists() else []
        spans = [line.split()[0].split("-") for line in lines if line.endswith(".safetensors")]
        self._spans = [(int(start, 16), int(end, 16)) for start, end in spans]
        self._madvise = ctypes.CDLL(None, use_errno=True).madvise if self._spans else None

    def hold(self, tensor: torch.Tensor) -> bool:
        """Whether a contiguous tensor lies in one of them."""
        if tensor.device.type != "cpu":
            return False
        start, end = tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes
        return any(low <= start and end <= high for low, high in self._spans)

    def forget(self, tensor: torch.Tensor) -> None:
        """Give back the whole pages that a contiguous tensor lies in, if they are a file's. Nobody may have written to
        it: whoever reads it again finds what the file holds."""
        if self._madvise is None or not self.hold(tensor):
            return
        start, end = tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes
        start, end = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE, end // mmap.PAGESIZE * mmap.PAGESIZE
        if start < end:
            self._madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), ctypes.c_int(mmap.MADV_DONTNEED))
