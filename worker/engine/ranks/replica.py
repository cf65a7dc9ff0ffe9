"""A replica of a model, whose gradients torch sums over the ranks."""

from inspect import signature
from typing import Any

import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

_SAME_BUFFERS: dict[str, Any] = {
    "forward_sync_buffers" if "forward_sync_buffers" in signature(DistributedDataParallel).parameters  # torch 2.13
    else "broadcast_buffers": False
}  # fmt: skip
"""Buffers are constants, which need not be sent for every batch."""


class Replica(DistributedDataParallel):
    """`DistributedDataParallel` with the attributes of its module, which the losses use."""

    def __init__(self, module: nn.Module) -> None:
        # torch would send all tensors at once, from a second copy of the model
        for tensor in (*module.parameters(), *module.buffers()):
            values = tensor.detach().contiguous()
            dist.broadcast(values, 0)
            if not tensor.is_contiguous():
                tensor.detach().copy_(values)
        # Some parameters have no part in the loss (an unused pooler), which torch has to look for.
        super().__init__(
            module, find_unused_parameters=True, gradient_as_bucket_view=True, init_sync=False, **_SAME_BUFFERS
        )

    def __getattr__(self, name: str) -> Any:
        """Fall back to the attributes of the wrapped module."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("module"), name)
