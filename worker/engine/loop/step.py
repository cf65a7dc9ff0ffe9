"""One forward and backward pass, and the optimizer step; shared by the training loop and the memory estimate.

AdamW (Loshchilov & Hutter 2017, arXiv 1711.05101) with torch's fused kernel. As in transformers, biases and
normalization weights, which are the parameters with one dimension, have no weight decay.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import torch
from torch import nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from app.domain.methods import LeanFullSpec, Method
from worker.engine.data.batches.batches import Batch
from worker.engine.loop.lean_optimizer import MEAN_SCALES, REST, ROWS, TINY, LeanOptimizer
from worker.engine.ranks.sharded import local, whole
from worker.engine.tasks import TaskFile

Enter = Callable[[Literal["forward", "backward"]], None]
ForwardAndBack = Callable[[TaskFile, nn.Module, Batch, int, torch.device, bool, Enter, float | None], torch.Tensor]


def forward_and_back(
    task: TaskFile,
    model: nn.Module,
    batch: Batch,
    units: int,
    device: torch.device,
    bf16: bool,
    enter: Enter,
    factor: float | None = None,
) -> torch.Tensor:
    """Accumulate the gradients of a batch, multiplied by the factor if there is one. Returns its share of the step's
    loss, detached: the sum over the batch divided by the `units` of the whole step.

    `enter` is called when the forward and the backward pass begin.
    """
    enter("forward")
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        loss = task.loss(model, batch) / units
    enter("backward")
    loss.backward(None if factor is None else torch.full_like(loss, factor))  # type: ignore[no-untyped-call]
    return loss.detach()


def optimizer_of(
    method: Method, parameters: Mapping[str, nn.Parameter], learning_rate: float, weight_decay: float, seed: int = 0
) -> torch.optim.Optimizer:
    """The method's optimizer: AdamW, or that of lean full fine-tuning. Weight decay on matrices only. Parameters with a
    learning-rate factor form their own group, with the factor under `factor`. `seed`: of stochastic rounding."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in parameters.items():
        decay = weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((method.rate_factor(name), decay), []).append(parameter)
    members = [{"params": ps, "weight_decay": decay, "factor": factor} for (factor, decay), ps in groups.items()]
    if isinstance(method, LeanFullSpec):
        return LeanOptimizer(members, method, learning_rate, seed)
    return torch.optim.AdamW(members, lr=learning_rate, fused=True)


def expected_state_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Bytes of the state that it will have after its first step; of AdamW two float32 moments."""
    if isinstance(optimizer, LeanOptimizer):
        return optimizer.expected_state_bytes()
    return sum(8 * parameter.numel() for group in optimizer.param_groups for parameter in group["params"])


def had_gradient(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> bool:
    """Whether any gradient of this rank's part was not zero: a moment is a weighted mean of all of them, or of their
    squares."""
    state = optimizer.state.get(parameter, {})
    moments = {MEAN_SCALES: 0.0, "exp_avg": 0.0, ROWS: 2 * TINY, "exp_avg_sq": 2 * TINY}
    name = next((name for name in moments if name in state), None)
    return name is not None and bool((local(state[name]).abs() > moments[name]).any())


def below_rounding(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> bool:
    """Whether Kahan summation remembers a part of the parameter's change that its bfloat16 value does not hold."""
    state = optimizer.state.get(parameter, {})
    return REST in state and bool(state[REST].any())


def clip(optimizer: torch.optim.Optimizer, parameters: Iterable[nn.Parameter], max_norm: float) -> torch.Tensor:
    """Scale the gradients down to `max_norm` if their norm exceeds it; 0 disables clipping. Returns the norm before."""
    if isinstance(optimizer, LeanOptimizer) and optimizer.in_backward:
        return optimizer.norm()
    trained = [p for p in parameters if p.grad is not None]
    norm = whole(get_total_norm([p.grad for p in trained if p.grad is not None]))
    # On a CPU the norm is known, and gradients within it need no multiplication by one. On CUDA reading it would wait.
    if max_norm > 0 and (norm.device.type != "cpu" or norm > max_norm):
        clip_grads_with_norm_(trained, max_norm, norm)
    return norm
