"""The loss of a language model, where there is something to learn and nowhere else.

    logits [N, V] = projection(hidden [N, H])         N: positions with a target, of B × T
    loss_i = logsumexp(logits_i) − logits_i[target_i]                                   in float32
    ∂loss_i / ∂logits_i = softmax(logits_i) − onehot(target_i)                          in the logits' type

With a vocabulary of V = 50,000 the logits are most of a step's memory, and a prompt's are thrown away. So only the
vectors that have a target reach the projection. Of the rest, the textbook's way keeps four arrays of N × V in float32
(a copy of the logits, their log-softmax, and a gradient of each); here the logits and their gradient are kept, both in
the type that the projection computes in, and float32 lives in one small part at a time.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from worker.engine.data.batches import Places

PARTS = {"cpu": 2**20, "cuda": 2**26}
"""Numbers in float32 at a time, by device: what a CPU's cache holds; 256 MiB, since on a GPU fewer kernels are worth
more."""


def logits_at(model: nn.Module, inputs: Mapping[str, torch.Tensor], places: Places, length: int) -> torch.Tensor:
    """Logits [N, V] at N places of a batch whose rows have `length` positions, in their order.

    A vector that a method puts in front of a row's own (a virtual token of prompt tuning) is not counted in `length`.
    """
    output = model.get_output_embeddings()  # type: ignore[operator]
    with _only(output, places, length) as selected:
        logits: torch.Tensor = model(**inputs, use_cache=False).logits
    return logits[0] if selected else logits[:, -length:][places]


@contextmanager
def _only(projection: nn.Module | None, places: Places, length: int) -> Iterator[list[bool]]:
    """Give the projection only the vectors [1, N, H] at the places; what is yielded is filled if it was called so.

    By a hook, since the projection is not the end: some models scale or cap what comes out of it. transformers' own
    `logits_to_keep` takes the same positions of all rows.
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
    """Cross-entropy in nats of each row of `logits` [N, V] with its target [N], as float32 [N]."""
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
        found = torch.empty_like(logits)
        for part in _parts(logits):
            change = torch.exp(logits[part].float() - normalisers[part].unsqueeze(1))
            change.scatter_add_(1, targets[part].unsqueeze(1), torch.full_like(change[:, :1], -1.0))
            found[part] = change.mul_(gradients[0][part].unsqueeze(1))
        return found, None


def _parts(logits: torch.Tensor) -> list[slice]:
    size = max(1, PARTS.get(logits.device.type, PARTS["cuda"]) // logits.shape[1])
    return [slice(start, start + size) for start in range(0, len(logits), size)]
