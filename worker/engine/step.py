"""One forward and backward pass, and the optimizer step; shared by the training loop and the memory estimate.

AdamW (Loshchilov & Hutter 2017, arXiv 1711.05101) with torch's fused kernel. As in transformers, biases and
normalization weights, which are the parameters with one dimension, have no weight decay.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import torch
from torch import nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from worker.engine.data.batches import Batch
from worker.engine.tasks import TaskFile


def forward_and_back(
    task: TaskFile,
    model: nn.Module,
    batch: Batch,
    units: int,
    device: torch.device,
    bf16: bool,
    enter: Callable[[Literal["forward", "backward"]], None],
) -> torch.Tensor:
    """Accumulate the gradients of a batch. Returns its share of the step's loss, detached: the sum over the batch
    divided by the `units` of the whole step.

    `enter` is called when the forward and the backward pass begin.
    """
    enter("forward")
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        loss = task.loss(model, batch) / units
    enter("backward")
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach()


def adamw(
    parameters: Mapping[str, nn.Parameter],
    learning_rate: float,
    weight_decay: float,
    rate_factor: Callable[[str], float],
) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices only. Parameters with a learning-rate factor form their own group, with the
    factor under `factor`."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in parameters.items():
        decay = weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((rate_factor(name), decay), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": members, "weight_decay": decay, "factor": factor} for (factor, decay), members in groups.items()],
        lr=learning_rate,
        fused=True,
    )


def clip(parameters: Iterable[nn.Parameter], max_norm: float) -> torch.Tensor:
    """Scale the gradients down to `max_norm` if their norm exceeds it; 0 disables clipping. Returns the norm before."""
    trained = [p for p in parameters if p.grad is not None]
    norm = get_total_norm([p.grad for p in trained if p.grad is not None])
    # On a CPU the norm is known, and gradients within it need no multiplication by one. On CUDA reading it would wait.
    if max_norm > 0 and (norm.device.type != "cpu" or norm > max_norm):
        clip_grads_with_norm_(trained, max_norm, norm)
    return norm
