"""Which weights are stored in bfloat16, and where autocast is needed.

With `bf16`, frozen matrices are stored in bfloat16 from the start, 2 bytes a value: autocast would round them for every
use anyway, so the loss is the same within bfloat16. Trainable weights stay float32, since updates below half a bfloat16
ulp would be lost; so do vectors, which take little memory, and which normalization needs exactly.

PiSSA and OLoRA decompose the rounded W, which is the one that all arms compute with; the residual is rounded once more.
PEFT creates an adapter in the dtype of the layer beside it and casts it to float32 afterwards, so a LoRA's initial
values are bfloat16 numbers; from then on they are float32.
"""

import math
from collections.abc import Collection, Iterable
from typing import Literal

import torch
from torch import nn

from worker.engine.models.weights import MappedFiles


def cast_frozen_to_bf16(model: nn.Module, excluded: Collection[str]) -> None:
    """Cast every matrix of a base model to bfloat16, except the `excluded` names: trainable weights and the head.

    One tensor at a time, and the mapped pages of its file are released as it is cast: there is never a whole copy in
    float32.
    """
    _round((p for name, p in model.named_parameters() if name not in excluded), MappedFiles())


def freeze_in_bf16(model: nn.Module) -> Literal["float32", "bfloat16"]:
    """Do the same after a method has been applied, for weights that it has frozen, such as the head that PEFT trains a
    copy of. Returns the dtype of frozen weights."""
    frozen = [p for p in model.parameters() if not p.requires_grad]
    _round(frozen, MappedFiles())
    for module in model.modules():
        if hasattr(module, "cast_input_dtype_enabled"):
            # PEFT would cast each adapter's input to float32, and autocast would cast it back.
            module.cast_input_dtype_enabled = False  # type: ignore[assignment]
    return "bfloat16" if any(p.dtype == torch.bfloat16 for p in frozen) else "float32"


def compute_type(model: nn.Module) -> torch.dtype:
    """bfloat16 if the model stores anything in it, else float32."""
    in_bf16 = any(p.dtype == torch.bfloat16 for p in model.parameters())
    return torch.bfloat16 if in_bf16 else torch.float32


def computing(model: nn.Module) -> torch.autocast:
    """Autocast, if the model stores anything in bfloat16: its matrices and vectors then differ in dtype and do not mix
    without it."""
    enabled = compute_type(model) is torch.bfloat16
    return torch.autocast(next(model.parameters()).device.type, torch.bfloat16, enabled=enabled)


def alike(actual: torch.Tensor, expected: torch.Tensor, compute: torch.dtype) -> bool:
    """Tolerance of half the digits of the coarser dtype: a float32 output of a normalization was computed from products
    in `compute`."""
    tolerance = math.sqrt(max(torch.finfo(dtype).eps for dtype in (expected.dtype, compute)))
    return bool((actual - expected).float().norm() <= tolerance * expected.float().norm())


def _round(parameters: Iterable[nn.Parameter], files: MappedFiles) -> None:
    for parameter in parameters:
        if parameter.ndim > 1 and parameter.dtype == torch.float32:
            values = parameter.data
            # The parameter object stays the same: tied weights stay tied.
            parameter.data = values.to(torch.bfloat16)
            files.release(values)
