"""How much arithmetic a training needs, and how much a device can do."""

import time
import warnings
from collections.abc import Sequence

import numpy as np
import torch
from peft import LoraConfig, TaskType, get_peft_model
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from app.samples import samples as sample


def training_flops(method: str, texts: Sequence[str], labels: int, max_length: int) -> float:
    """Floating-point operations of one epoch over the real tokens: forward, and what of the backward pass the method
    needs.

    Those of a row of T tokens are a + b·T + c·T² (attention), so three lengths tell all; counted on meta tensors.
    """
    config = AutoConfig.from_pretrained(sample.model_directory(), num_labels=labels)
    # PEFT asks transformers for a name that will go.
    with torch.device("meta"), warnings.catch_warnings(action="ignore", category=FutureWarning):
        model = AutoModelForSequenceClassification.from_config(  # type: ignore[no-untyped-call]
            config, attn_implementation="eager"
        )
        if method == "lora":
            lora = LoraConfig(task_type=TaskType.SEQ_CLS, r=8, target_modules=["query", "value"])
            model = get_peft_model(model, lora)
    counted = []
    for length in (at := (16, 32, 64)):
        with FlopCounterMode(display=False) as counter:
            ids = torch.zeros((1, length), dtype=torch.int64, device="meta")
            model(input_ids=ids).logits.sum().backward()
        counted.append(counter.get_total_flops())
    tokenizer = AutoTokenizer.from_pretrained(sample.model_directory())
    encoded = tokenizer(list(texts), truncation=True, max_length=max_length)
    lengths = [len(ids) for ids in encoded["input_ids"]]
    return float(np.polyval(np.polyfit(at, counted, 2), lengths).sum())


def peak(dtype: torch.dtype, device: torch.device, size: int = 4096) -> float:
    """Operations a second of a device's best matrix product, of five: of the device that trains."""
    a, b = torch.randn(2, size, size, device=device).to(dtype)
    product(a, b)
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        product(a, b)
        seconds.append(time.perf_counter() - began)
    return 2 * size**3 / min(seconds)


def product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """A matrix product that is done: a GPU only takes note of it."""
    found = a @ b
    if found.device.type == "cuda":
        torch.cuda.synchronize(found.device)
    return found
