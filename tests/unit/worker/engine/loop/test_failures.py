"""From exceptions to failures: each a sentence with the next step."""

import errno
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors import SafetensorError

from app.domain.failures import FailureCode, RunFailed
from app.domain.messages import Message
from worker.engine.loop.failures import failure


def test_a_real_allocation_that_fails_is_out_of_memory() -> None:
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**50, dtype=torch.uint8)
    found = failure(error.value, peak_bytes=300 * 2**20)
    assert (found.code, found.requested_bytes) == (FailureCode.OUT_OF_MEMORY, 2**50)
    assert "1,073,741,824 MiB more were requested; the peak before was 300 MiB above the start)" in found.message
    assert "smaller batch" in found.message


def test_cudas_message_is_read_too() -> None:
    error = torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 79 GiB"
    )
    found = failure(error)
    assert (found.code, found.requested_bytes) == (FailureCode.OUT_OF_MEMORY, 2560 * 2**20)
    assert "(2,560 MiB more were requested)." in found.message
    small = failure(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 KiB."))
    assert "(20 KiB more were requested)." in small.message


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MemoryError(), FailureCode.OUT_OF_MEMORY),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be"), FailureCode.OUT_OF_MEMORY),
        (
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
            FailureCode.OUT_OF_MEMORY,
        ),
        (RuntimeError("CUDA error: device-side assert triggered"), FailureCode.INTERNAL),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), FailureCode.DISK_FULL),
        (SafetensorError("I/O error: No space left on device (os error 28)"), FailureCode.DISK_FULL),
        (RunFailed(FailureCode.DIVERGED, Message("at step 3")), FailureCode.DIVERGED),
        (OSError(errno.EACCES, "no"), FailureCode.INTERNAL),
        (RuntimeError("shape mismatch\nand a long trace"), FailureCode.INTERNAL),
    ],
)
def test_each_exception_has_its_code_and_one_line(error: Exception, code: FailureCode) -> None:
    found = failure(error)
    assert found.code is code
    assert found.message and "\n" not in found.message


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "full"),
        OSError(errno.EDQUOT, "quota"),
        SafetensorError("I/O error: No space left on device"),
    ],
)
def test_a_full_disk_is_named_with_what_is_free_and_what_is_needed(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _place: SimpleNamespace(free=2000))
    found = failure(error, output=tmp_path / "output", saved_bytes=30 << 20)
    assert found.message == (
        f"The worker's disk with {tmp_path}/output is full: 2 KiB are free, and at least 30 MiB are needed. "
        "Free some space there, then submit the run again."
    )
    assert f"with {Path.cwd()} is full: 2 KiB are free. Free" in failure(error).message
