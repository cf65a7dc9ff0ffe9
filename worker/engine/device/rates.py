"""What a device does in a second, measured before a run: `app.domain.resources.speed` predicts train times from it."""

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from transformers import BertConfig, BertForSequenceClassification

from app.domain.resources.speed import DeviceRates
from worker.engine.estimation.fake import Operations

_WIDTHS = {"cpu": (64, 256, 1024), "cuda": (256, 1024, 4096)}
_LARGE = {"cpu": 1024, "cuda": 4096}
_TOKENS = 512
_NUMBERS = {"cpu": 2**21, "cuda": 2**23}
"""Numbers in the tensors that are added: more than a processor's own cache holds."""
_TINY = BertConfig(
    vocab_size=16,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=1,
    num_attention_heads=2,
    max_position_embeddings=16,
)


def device_rates(device: torch.device, bf16: bool) -> DeviceRates:
    """Measure them in the compute dtype. On a CPU this is also the libraries' first use, so that their buffers are
    allocated before memory is counted."""
    dtype = torch.bfloat16 if bf16 else torch.float32
    with torch.random.fork_rng():
        calls = _calls(device, bf16)
    return DeviceRates(
        peak=matmul_flops(device, bf16),
        by_width={width: _product(_TOKENS, width, dtype, device) for width in _WIDTHS[device.type]},
        calls=calls,
        bytes=_bytes(device),
    )


def matmul_flops(device: torch.device, bf16: bool) -> float:
    """FLOP/s of the product of large matrices."""
    large = _LARGE[device.type]
    return _product(large, large, torch.bfloat16 if bf16 else torch.float32, device)


def _product(rows: int, width: int, dtype: torch.dtype, device: torch.device) -> float:
    """FLOP/s of the product [rows, width] · [width, width]."""
    a, b = torch.ones(rows, width, dtype=dtype, device=device), torch.ones(width, width, dtype=dtype, device=device)
    return 2 * rows * width**2 / _fastest(lambda: a @ b, device)


def _bytes(device: torch.device) -> float:
    """Bytes a second that an addition reads and writes."""
    a, b, total = torch.ones(3, _NUMBERS[device.type], device=device)
    return 3 * int(a.nbytes) / _fastest(lambda: torch.add(a, b, out=total), device)


def _calls(device: torch.device, bf16: bool) -> float:
    """Operations a second of the passes of a model whose tensors are tiny."""
    model: Any = BertForSequenceClassification(_TINY)
    model.to(device)
    ids, labels = torch.ones(2, 8, dtype=torch.long, device=device), torch.ones(2, dtype=torch.long, device=device)

    def passes() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        model.zero_grad()

    with Operations() as operations:
        passes()
    return operations.work.calls / _fastest(passes, device)


def _fastest(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of the fastest of five repetitions. On a CPU, of this thread's processor time, which other processes do
    not lengthen: the other threads have an equal share of the work."""
    now = time.thread_time if device.type == "cpu" else time.perf_counter
    best = math.inf
    for _repetition in range(6):  # the first warms up
        began = now()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, now() - began)
    return best
