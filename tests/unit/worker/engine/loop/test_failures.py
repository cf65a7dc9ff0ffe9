"""From exceptions to failures, and attempts that are refused."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, BertGenerationConfig, MistralConfig, PreTrainedConfig

from app.domain.failures import FailureCode, RunFailed
from app.domain.messages import Message
from app.domain.methods import PromptSpec
from app.domain.runs.status import Phase
from tests.support.tiny import lm as tiny_lm
from tests.support.tiny import texts as tiny
from worker.engine.data.batches.packing import check_packing
from worker.engine.data.batches.padding_free import check_padding_free
from worker.engine.loop.attempt import Attempt
from worker.engine.loop.failures import failure
from worker.engine.loop.prefix.frozen_prefix import frozen_prefix
from worker.engine.models.architecture import behind_blocks


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
def test_a_full_disk_is_named_with_numbers(error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _place: SimpleNamespace(free=2000))
    found = failure(error, output=tmp_path / "output", saved_bytes=30 << 20)
    assert found.message == (
        f"The worker's disk with {tmp_path}/output is full: 2 KiB are free, and at least 30 MiB are needed. "
        "Free some space there, then submit the run again."
    )
    assert f"with {Path.cwd()} is full: 2 KiB are free. Free" in failure(error).message


PROBES: dict[str, Callable[[Any], object]] = {
    "packing": lambda model: check_packing(model, 8),
    "padding-free": lambda model: check_padding_free(model, 8),
    "behind blocks": lambda model: behind_blocks(model, ["model.layers.0"]),
    "frozen prefix": frozen_prefix,
}


@pytest.mark.parametrize("probe", PROBES.values(), ids=PROBES)
def test_a_memory_error_passes_through(probe: Callable[[Any], object], monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_lm.model("llama")
    model.get_input_embeddings().requires_grad_(False)  # there is no prefix to look for where everything trains

    def forward(*_args: object, **_options: object) -> None:
        raise MemoryError

    monkeypatch.setattr(type(model), "forward", forward)
    with pytest.raises(MemoryError):
        probe(model)


def test_a_budget_that_a_method_does_not_go_with(base: Path, tmp_path: Path, recorder: tiny.Recorder) -> None:
    packed = tiny.FAST.model_copy(update={"packing": True})
    job = tiny.job(tmp_path, base, PromptSpec(num_virtual_tokens=2), packed)
    with pytest.raises(
        RunFailed, match=r"training\.packing: The method prompt tuning does not work with packing: "
    ) as failed:
        Attempt(job, recorder).run()
    assert failed.value.code is FailureCode.BAD_CONFIGURATION
    assert recorder.phases == [Phase.LOAD]


SIZES = {
    "vocab_size": 32,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "initializer_range": 0.5,
}


@pytest.mark.parametrize(
    ("config", "packing", "sentence"),
    [
        (BertGenerationConfig(**SIZES), False, "is an encoder"),
        (MistralConfig(**SIZES, num_key_value_heads=2, sliding_window=8), True, "packing: rows cannot be packed"),
    ],
    ids=["reads both ways", "a window"],
)
def test_a_model_whose_rows_would_see_what_they_predict(
    config: PreTrainedConfig, packing: bool, sentence: str, tmp_path: Path, recorder: tiny.Recorder
) -> None:
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "base")
    tiny_lm.tokenizer().save_pretrained(tmp_path / "base")
    training = tiny_lm.FAST.model_copy(update={"packing": packing})
    job = tiny_lm.job(tmp_path / "job", tmp_path / "base", "causal-lm", tiny_lm.pairs(), training=training)
    with pytest.raises(RunFailed, match=sentence):
        Attempt(job, recorder).run()
