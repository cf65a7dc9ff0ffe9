"""Tensors of which each process holds the rows of its rank (`torch.distributed.fsdp.fully_shard`)."""

import torch
from torch.distributed.tensor import DTensor


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
