"""The cross-entropy of a language model, computed only at positions with a target.

    logits [N, V] = projection(hidden [N, H])         N: positions with a target, of B × T
    loss_i = logsumexp(logits_i) − logits_i[target_i]                                   in float32
    ∂loss_i / ∂logits_i = softmax(logits_i) − onehot(target_i)                          in the logits' dtype

With a vocabulary of V = 50,000 the logits are most of a step's memory, and those of the prompt are discarded. So only
the vectors with a target reach the projection. For these, the textbook implementation keeps four float32 arrays of N ×
V (a copy of the logits, their log-softmax, and a gradient of each); here only the logits and their gradient are kept,
in the projection's dtype, and float32 values exist for one small chunk at a time.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from worker.engine.data.batches.batches import Places

PARTS = {"cpu": 2**20, "cuda": 2**26}
"""Float32 elements per chunk, by device: what fits a CPU's cache; 256 MiB on a GPU, where fewer kernels matter more."""


def logits_at(model: nn.Module, inputs: Mapping[str, torch.Tensor], places: Places, length: int) -> torch.Tensor:
    """Logits [N, V] at N positions of a batch whose rows have `length` positions, in order.

    A vector that a method prepends (a virtual token of prompt tuning) is not counted in `length`.
    """
    output = model.get_output_embeddings()  # type: ignore[operator]
    with _only(output, places, length) as selected:
        logits: torch.Tensor = model(**inputs, use_cache=False).logits
    return logits[0] if selected else logits[:, -length:][places]


@contextmanager
def _only(projection: nn.Module | None, places: Places, length: int) -> Iterator[list[bool]]:
    """Pass only the vectors [1, N, H] at the positions to the projection; the yielded list is filled if that happened.

    By a hook, since some models scale or cap the projection's output. transformers' own `logits_to_keep` selects the
    same positions of all rows.
    """
    selected: list[bool] = []

    def select(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        hidden = args[0] if args else None
        if not isinstance(hidden, torch.Tensor) or hidden.ndim != 3 or hidden.shape[1] < length:
            return None
        selected.append(True)
        return (hidden[:, -length:][places].unsqueeze(0), *args[1:])

    if projection is None:
        yield selected
        return
    handle = projection.register_forward_pre_hook(select)
    try:
        yield selected
    finally:
        handle.remove()


def token_losses(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross-entropy in nats for each row of `logits` [N, V] and its target [N], as float32 [N]."""
    losses: torch.Tensor = _TokenLosses.apply(logits, targets)  # type: ignore[no-untyped-call]
    return losses


class _TokenLosses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        normalisers = torch.cat([logits[part].float().logsumexp(1) for part in _parts(logits)])
        ctx.save_for_backward(logits, targets, normalisers)
        return normalisers - logits.gather(1, targets.unsqueeze(1)).squeeze(1).float()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        logits, targets, normalisers = ctx.saved_tensors
        gradient = torch.empty_like(logits)
        for part in _parts(logits):
            change = torch.exp(logits[part].float() - normalisers[part].unsqueeze(1))
            change.scatter_add_(1, targets[part].unsqueeze(1), torch.full_like(change[:, :1], -1.0))
            gradient[part] = change.mul_(gradients[0][part].unsqueeze(1))
        return gradient, None


def _parts(logits: torch.Tensor) -> list[slice]:
    size = max(1, PARTS.get(logits.device.type, PARTS["cuda"]) // logits.shape[1])
    return [slice(start, start + size) for start in range(0, len(logits), size)]
