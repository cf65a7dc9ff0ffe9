"""What is held in bfloat16, and where its arithmetic needs autocast.

With `bf16`, frozen matrices are held in bfloat16 from the start, 2 bytes a number: autocast would round them for every
use anyway, so the loss is the same within bfloat16. What trains stays float32, since updates below half a step of
bfloat16 would be lost; so do vectors, which weigh nothing, and a normalisation wants them exact.

PiSSA and OLoRA split the rounded W, which is the one that all arms compute with; what is left of it is rounded once
more. PEFT makes an adapter in the type of the layer beside it and widens it to float32 afterwards, so the first values
of a LoRA are numbers of bfloat16; from then on they are float32.
"""

import math
from collections.abc import Collection, Iterable
from typing import Literal

import torch
from torch import nn

from worker.engine.memory.mapped import MappedFiles


def cast_frozen_to_bf16(model: nn.Module, kept: Collection[str]) -> None:
    """Hold every matrix of a base model in bfloat16, but those in `kept`, by name: what trains, and the head.

    Tensor by tensor, and the pages of the file that it was mapped from go as it is rounded: there is never a whole
    copy in float32.
    """
    _round((p for name, p in model.named_parameters() if name not in kept), MappedFiles())


def freeze_in_bf16(model: nn.Module) -> Literal["float32", "bfloat16"]:
    """The same once a method has been applied, for what it has left frozen, such as the head that PEFT trains a copy
    of. Says what frozen weights are held in then."""
    frozen = [p for p in model.parameters() if not p.requires_grad]
    _round(frozen, MappedFiles())
    for module in model.modules():
        if hasattr(module, "cast_input_dtype_enabled"):
            # PEFT would convert the inputs of each adapter to float32, for autocast to convert them back.
            module.cast_input_dtype_enabled = False  # type: ignore[assignment]
    return "bfloat16" if any(p.dtype == torch.bfloat16 for p in frozen) else "float32"


def compute_type(model: nn.Module) -> torch.dtype:
    """bfloat16 if a model holds anything in it, else float32."""
    held = any(p.dtype == torch.bfloat16 for p in model.parameters())
    return torch.bfloat16 if held else torch.float32


def computing(model: nn.Module) -> torch.autocast:
    """Autocast, if a model holds anything in bfloat16: its matrices and its vectors are of two types then, which do not
    go together without."""
    enabled = compute_type(model) is torch.bfloat16
    return torch.autocast(next(model.parameters()).device.type, torch.bfloat16, enabled=enabled)


def alike(found: torch.Tensor, expected: torch.Tensor, compute: torch.dtype) -> bool:
    """Equal in half of the digits of the coarser type: what a normalisation returns in float32 was computed from
    products in `compute`."""
    tolerance = math.sqrt(max(torch.finfo(dtype).eps for dtype in (expected.dtype, compute)))
    return bool((found - expected).float().norm() <= tolerance * expected.float().norm())


def _round(parameters: Iterable[nn.Parameter], files: MappedFiles) -> None:
    for parameter in parameters:
        if parameter.ndim > 1 and parameter.dtype == torch.float32:
            whole = parameter.data
            # The parameter stays the same object: weights that are tied stay tied.
            parameter.data = whole.to(torch.bfloat16)
            files.forget(whole)
