"""Which weights are stored in bfloat16, and where autocast is needed.

A base model is loaded in the dtype of its files (`load`), and `settle` gives each tensor the dtype that it trains in,
one at a time, on the device: an 8B model stored in bfloat16 never exists in float32.

    trainable, head       float32      updates below half a bfloat16 ulp would be lost; in lean full fine-tuning the
                                       optimizer keeps them otherwise, and only the head is float32
    frozen, without bf16  float32
    frozen, with bf16     matrices in bfloat16, 2 bytes a value: autocast would round them for every use anyway, so the
                          loss is the same within bfloat16; vectors as in the file. Normalization multiplies by its
                          weight last, and a float32 weight would make its output, and every activation that is saved
                          of it, float32.

PiSSA and OLoRA decompose the rounded W, which is the one that all arms compute with; the residual is rounded once more.
PEFT creates an adapter in the dtype of the layer beside it and casts it to float32 afterwards, so a LoRA's initial
values are bfloat16 numbers; from then on they are float32.
"""

import math
from collections.abc import Collection
from typing import Literal

import torch
from torch import nn

from app.domain.methods import Method
from app.domain.models.architecture import TaskModel
from worker.engine.models.quantized.quantization import is_packed
from worker.engine.models.weights import MappedFiles


def kept_in_float32(method: Method, facts: TaskModel) -> set[str]:
    """Names of the base model's weights that are float32 in any case: the head, and what trains unless the method
    stores that in bfloat16."""
    trains = () if method.computes_in_bf16 else method.trains(facts)
    return {tensor.name for tensor in trains} | {parameter.name for parameter in facts.head_parameters}


def settle(model: nn.Module, in_float32: Collection[str], device: torch.device, *, bf16: bool) -> None:
    """Give each tensor of a base model its dtype (above) on the device, in place. `in_float32`: see `kept_in_float32`.

    The mapped pages of a tensor's file are released as it is converted: there is never a second copy of the model.
    """
    files = MappedFiles()
    for name, parameter in model.named_parameters():
        if not is_packed(parameter):
            dtype = _frozen_dtype(parameter) if bf16 and name not in in_float32 else torch.float32
            convert(parameter, device, dtype, files)
    if not bf16:
        widen_buffers(model)
    nn.Module.to(model, device)


def convert_parameters(model: nn.Module, dtype: torch.dtype) -> None:
    """Give every parameter a dtype, in place. Buffers stay as the model made them, as in a run (`settle`): rotary
    frequencies in bfloat16 would turn positions by other angles."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    if dtype is torch.float32:
        widen_buffers(model)


def freeze_in_bf16(model: nn.Module) -> Literal["float32", "bfloat16"]:
    """Do the same after a method has been applied, for weights that it has frozen, such as the head that PEFT trains a
    copy of. Returns the dtype of frozen weights."""
    frozen = [p for p in model.parameters() if not p.requires_grad]
    files = MappedFiles()
    for parameter in frozen:
        if not is_packed(parameter):
            convert(parameter, parameter.device, _frozen_dtype(parameter), files)
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


def widen_buffers(model: nn.Module) -> None:
    """Give half-precision buffers float32, in place."""
    for buffer in model.buffers():
        if buffer.dtype in (torch.float16, torch.bfloat16):
            buffer.data = buffer.data.float()


def _frozen_dtype(parameter: nn.Parameter) -> torch.dtype:
    """The dtype of a frozen tensor with bfloat16 arithmetic."""
    keeps = parameter.ndim <= 1 and parameter.dtype is torch.float32
    return torch.float32 if keeps else torch.bfloat16


def convert(parameter: nn.Parameter, device: torch.device, dtype: torch.dtype, files: MappedFiles) -> None:
    """Give a parameter a dtype on a device, in place, and release its pages of a file."""
    values = parameter.data
    if values.dtype != dtype or values.device != device:
        # The parameter object stays the same: tied weights stay tied.
        parameter.data = values.to(device, dtype)
        files.release(values)
