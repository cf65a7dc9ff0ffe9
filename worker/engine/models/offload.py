"""Activation offload: what gradient checkpointing keeps of each block, its input, waits in the host's memory.

    forward     x ─► block ─► y        x is copied to pinned memory of the host, and its own memory is free
    backward    x ◄─ host              copied back when the block is recomputed, and dropped after it

Without offload the inputs of L blocks are on the device, L · B · T · H values; with it one or two. The numbers are the
same: a copy changes no bit. Copies are queued between the kernels of the pass, so nothing needs another stream or
waits, and the memory of x is reused in order; the time of the copies is added to the step.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from app.domain.failures import FailureCode, RunFailed
from app.domain.messages import _
from worker.engine.memory.ledger import on_the_host
from worker.engine.models.blocks import block_names


def offload_blocks(model: nn.Module) -> None:
    """Keep the inputs of checkpointed blocks in the host's memory; call it after `checkpoint_blocks`.

    Raises `RunFailed(bad_configuration)` if the blocks of the architecture are not recomputed one by one.
    """
    blocks = [model.get_submodule(name) for name in block_names(model)]
    if not all(hasattr(block, "_gradient_checkpointing_func") for block in blocks):
        raise _unsupported(type(model).__name__)
    for block in blocks:
        vars(block)["_gradient_checkpointing_func"] = partial(_recomputed, type(model).__name__)


class _Kept:
    """A block's input [B, T, H]."""

    def __init__(self, hidden: torch.Tensor) -> None:
        self._hidden: torch.Tensor | None = hidden
        self._device, self._host = hidden.device, torch.empty(0)

    def take(self) -> torch.Tensor:
        """The input itself, or once it has left its values on the device, for the block's recomputation."""
        if self._hidden is not None:
            return self._hidden
        # on a CPU a copy too, so that tests and estimates see the same tensors as a GPU
        back = self._host.to(self._device, non_blocking=True, copy=True)
        return back.requires_grad_()

    def leave(self) -> None:
        """Copy the values to the host."""
        hidden, self._hidden = self._hidden, None
        if hidden is not None:
            with torch.no_grad(), on_the_host():
                pinned = hidden.device.type == "cuda"
                host = torch.empty(hidden.shape, dtype=hidden.dtype, device="cpu", pin_memory=pinned)
                self._host = host.copy_(hidden.detach(), non_blocking=True)


def _recomputed(name: str, run: Callable[..., Any], *args: Any) -> Any:
    """In the place of transformers' checkpointing function: the output of `run`, with the input that it will be run on
    again in the host's memory."""
    if not args or not isinstance(args[0], torch.Tensor):
        raise _unsupported(name)
    kept, others = _Kept(args[0]), args[1:]
    place = args[0].new_empty(0)  # by it, torch knows the device whose random state the recomputation restores
    del args
    output = checkpoint(lambda _place, *rest: run(kept.take(), *rest), place, *others, use_reentrant=False)
    kept.leave()
    return output


def _unsupported(name: str) -> RunFailed:
    text = _(
        "offload_activations: the blocks of %(name)s are not recomputed one by one. Leave it out, or choose another "
        "base model.",
        name=name,
    )
    return RunFailed(FailureCode.BAD_CONFIGURATION, text)
