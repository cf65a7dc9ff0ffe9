"""LoRA written out and PEFT's, on the same layer, with the same numbers: every output must be the same.

    y = W·x + s·B·A·x      W [out, in] frozen,  A [r, in],  B [out, r] = 0 at the start,  s = lora_alpha / r

Both start from the same A and follow the same `STEPS` steps of AdamW towards outputs of W + ΔW with a random ΔW of
rank r. Inputs are random, N(0, 1), with a fixed seed.
"""

import copy
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import nn
from torch.nn import functional
from transformers import AutoModel

from app.features.lab.computations import Equality, EqualityRequest
from worker.engine.baselines.small_model import load_small
from worker.engine.methods.scratch import LoRALayer
from worker.features.lab.layers import linear_layer

ROWS, TOKENS, STEPS, SEED = 16, 24, 20, 0
RATE = 5e-3


def equality(request: EqualityRequest) -> Equality:
    """Compare the two. Raises `RunFailed` if the base model cannot be loaded or has no such layer."""
    _tokenizer, model = load_small(request, AutoModel)
    layer = linear_layer(model, request.layer)
    with torch.random.fork_rng([]):
        torch.manual_seed(SEED)
        own = LoRALayer(copy.deepcopy(layer), request.r, request.lora_alpha, 0.0)
        own.requires_grad_(True)
        own.original.requires_grad_(False)
        peft = _of_peft(layer, request, own.A.detach())
        width = own.A.shape[1]
        x = torch.randn(ROWS, TOKENS, width)
        wanted = layer(x) + functional.linear(
            functional.linear(x, torch.randn(request.r, width) / width**0.5),
            torch.randn(own.B.shape[0], request.r) / request.r**0.5,
        )
    with torch.no_grad():
        base = layer(x)
        start = _largest(own(x) - base)
        wanted = wanted.detach()
    for module in (own, peft):
        _train(module, x, wanted)
    with torch.no_grad():
        trained, learned, apart = _largest(own(x) - peft(x)), _largest(own(x) - base), own(x)
        own.merge()
        merged = _largest(own(x) - apart)
    shape = (ROWS, TOKENS, width)
    return Equality(
        inputs=shape,
        steps=STEPS,
        start=start,
        trained=trained,
        merged=merged,
        learned=learned,
        largest=_largest(apart),
    )


def _of_peft(layer: nn.Module, request: EqualityRequest, a: torch.Tensor) -> nn.Module:
    config = LoraConfig(r=request.r, lora_alpha=request.lora_alpha, target_modules=["0"])
    adapted: Any = inject_adapter_in_model(config, nn.Sequential(copy.deepcopy(layer)))
    with torch.no_grad():
        adapted[0].lora_A["default"].weight.copy_(a)
    module: nn.Module = adapted
    return module


def _train(module: nn.Module, x: torch.Tensor, wanted: torch.Tensor) -> None:
    optimizer = torch.optim.AdamW((p for p in module.parameters() if p.requires_grad), lr=RATE)
    for _step in range(STEPS):
        functional.mse_loss(module(x), wanted).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()


def _largest(difference: torch.Tensor) -> float:
    return float(difference.abs().max())
