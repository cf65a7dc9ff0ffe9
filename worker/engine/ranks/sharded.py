"""Tensors of which each process holds the rows of its rank (`torch.distributed.fsdp.fully_shard`).

With bfloat16 arithmetic the linear layers of a block are gathered in bfloat16: autocast would round float32 weights for
every use, and keep the copies until the backward pass. Everything else (normalization, embeddings, output projection,
head) is gathered in float32, as a single process holds it. Gradients are summed, and weights updated, in float32.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.modules.conv import _ConvNd
from transformers.pytorch_utils import Conv1D

from worker.engine.models.precision import convert
from worker.engine.models.weights import MappedFiles

_ROUNDED = (nn.Linear, Conv1D, _ConvNd)
"""Autocast rounds their weights and biases for every use."""
_FLOAT32 = MixedPrecisionPolicy()
_BFLOAT16 = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)


def shard(model: nn.Module, blocks: Sequence[str], mesh: DeviceMesh, *, bf16: bool) -> nn.Module:
    """A twin of the model in float32, of which each rank holds its part, on the device of the mesh.

    The model's own parameters become empty, block by block. They may lie in the mapped files of the base model: then a
    rank reads its own rows, or a block at a time where the file has another dtype or the device is a GPU. So a rank
    that has not read the model before never holds more than its part, and one block or what lies outside of them.
    """
    device, files = torch.device(mesh.device_type), MappedFiles()
    # Modules that are copied, with the parameters themselves: `fully_shard` replaces those of the copy.
    shared: dict[int, Any] = {id(t): t for t in (*model.parameters(), *model.buffers())}
    twin = copy.deepcopy(model, shared)
    for name in blocks:
        block = twin.get_submodule(name)
        values = _whole(block, device, files)
        kept = kept_modules(block) if bf16 else []
        for module in reversed(kept):  # inner ones first
            if module is not block:
                fully_shard(module, mesh=mesh, reshard_after_forward=False)
        fully_shard(block, mesh=mesh, mp_policy=_BFLOAT16 if bf16 and block not in kept else _FLOAT32)
        _empty(values, files)
    values = _whole(twin, device, files)
    fully_shard(twin, mesh=mesh)
    _empty(values, files)
    return twin


def kept_modules(block: nn.Module) -> list[nn.Module]:
    """The modules of a block whose own weights stay in float32."""
    return [
        m for m in block.modules() if not isinstance(m, _ROUNDED) and any(True for _ in m.parameters(recurse=False))
    ]


def rounded_weights(block: nn.Module) -> list[nn.Parameter]:
    """The weights of a block that are gathered in bfloat16, with bfloat16 arithmetic."""
    kept = {id(p) for module in kept_modules(block) for p in module.parameters()}
    return [p for p in block.parameters() if id(p) not in kept]


def _whole(module: nn.Module, device: torch.device, files: MappedFiles) -> list[nn.Parameter]:
    """The weights of a module that are not sharded yet, in float32 on the device."""
    parameters = [p for p in module.parameters() if not isinstance(p, DTensor)]
    for parameter in parameters:
        convert(parameter, device, torch.float32, files)
    return parameters


def _empty(parameters: Sequence[nn.Parameter], files: MappedFiles) -> None:
    for parameter in parameters:
        files.release(parameter.data)
        parameter.data = parameter.data.new_empty(0)


def local(tensor: torch.Tensor) -> torch.Tensor:
    """This rank's part of a tensor; the whole tensor if it is not sharded."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """All of a tensor; of a sharded one, every rank has to call it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def rows(tensor: torch.Tensor) -> slice:
    """The rows of the whole tensor that this rank holds. As `torch.chunk` divides them: the last parts may be short or
    empty."""
    if not isinstance(tensor, DTensor):
        return slice(0, tensor.shape[0] if tensor.ndim else 0)
    mesh, total = tensor.device_mesh, tensor.shape[0]
    size = -(-total // mesh.size())
    start = min(total, mesh.get_local_rank() * size)
    return slice(start, min(total, start + size))


def sharded_like(part: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """The tensor of which `part` holds this rank's rows, sharded as `tensor` is."""
    part = part.to(tensor.device)
    if not isinstance(tensor, DTensor):
        return part
    return DTensor.from_local(
        part, tensor.device_mesh, tensor.placements, run_check=False, shape=tensor.shape, stride=tensor.stride()
    )
