"""Padding-free batches: the blocks of a model compute the tokens of a batch one row after another, without padding.

    rows       a b c d        embeddings and head    [B, T, H]   padded, as the model's own code expects
               e f – –        blocks                 [1, N, H]   a b c d e f, with the N tokens of the rows
               g – – –        attention              within each row: a b c d | e f | g

Tokens meet each other in attention alone, so a row has the same loss and gradients as in a padded batch. Positions are
added before the blocks or passed to each of them, both still padded, and lose their padding with the rest.

On a CPU the row gets a few more tokens, up to a multiple of `CPU_MULTIPLE`: oneDNN prepares a matrix product anew for
each number of rows that it has not seen, which takes as long as the product of a small model itself.

No architecture is named here: each model is probed before training, and one whose logits differ is refused.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import accumulate
from typing import Any

import torch
from torch import nn

from app.domain.messages import _
from worker.engine.data.batches.batches import Batch
from worker.engine.data.probing import PROBE_LENGTHS, Probe
from worker.engine.models.architecture import block_names
from worker.engine.models.attention import Rows, within_rows
from worker.engine.models.precision import alike, compute_type, computing

CPU_MULTIPLE = 32
"""The tokens of a batch on a CPU are a multiple of this."""


class RowsApart:
    """Hooks on a model's blocks, with attention within rows between them; inactive outside `of`."""

    def __init__(self, model: nn.Module, as_one: bool = False) -> None:
        """`as_one`: as in `Rows`."""
        self._blocks = [model.get_submodule(name) for name in block_names(model)]
        self._as_one = as_one
        self._shape = (0, 0)
        self._places = self._sources = torch.empty(0)

    @contextmanager
    def of(self, batch: Batch) -> Iterator[None]:
        """Forward and backward passes over a batch with `lengths`, whose rows are padded on the right. Does nothing
        for a batch without padding, where the model's own way is as short."""
        if batch.lengths is None:
            yield
            return
        rows, longest = batch.inputs["input_ids"].shape
        if sum(batch.lengths) == rows * longest:
            yield
            return
        device = batch.inputs["input_ids"].device
        starts = [row * longest + place for row, length in enumerate(batch.lengths) for place in range(length)]
        self._places = torch.tensor(starts, device=device)
        filling = -len(starts) % CPU_MULTIPLE if device.type == "cpu" else 0
        self._sources = torch.tensor(starts + [0] * filling, device=device)
        lengths = (*batch.lengths, filling) if filling else batch.lengths
        self._shape = (rows, longest)
        ends = [0, *accumulate(lengths)]
        handles = [block.register_forward_pre_hook(self._enter, with_kwargs=True) for block in self._blocks]
        handles.append(self._blocks[-1].register_forward_hook(self._leave))
        try:
            with within_rows(Rows(tuple(lengths), torch.tensor(ends, dtype=torch.int32, device=device), self._as_one)):
                yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, block: nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> tuple[Any, Any]:
        return self._joined(args), {name: self._joined(value) for name, value in options.items()}

    def _joined(self, value: Any) -> Any:
        """A block's argument without padding: [B or 1, T, …] to [1, N, …]."""
        if isinstance(value, tuple | list):
            return type(value)(map(self._joined, value))
        if not isinstance(value, torch.Tensor) or value.ndim < 2 or value.shape[1] != self._shape[1]:
            return value
        if value.shape[0] == 1:
            value = value.expand(self._shape[0], *value.shape[1:])
        return value.flatten(0, 1)[self._sources].unsqueeze(0) if value.shape[0] == self._shape[0] else value

    def _leave(self, block: nn.Module, args: Any, output: Any) -> Any:
        """Activations [1, N, H] to [B, T, H], with zeros for padding."""
        hidden: torch.Tensor = output if isinstance(output, torch.Tensor) else output[0]
        rows, longest = self._shape
        wide = hidden.new_zeros(rows * longest, hidden.shape[-1])
        wide = wide.index_copy(0, self._places, hidden[0, : len(self._places)])
        wide = wide.view(rows, longest, -1)
        return wide if isinstance(output, torch.Tensor) else (wide, *output[1:])


def without_padding(batch: Batch) -> Batch:
    """The same batch for `RowsApart.of`: with the lengths of its rows, and without a mask, since padding reaches no
    block."""
    real = batch.real
    inputs = {name: tensor for name, tensor in batch.inputs.items() if name != "attention_mask"}
    lengths = tuple(real.sum(1).tolist())
    return replace(batch, inputs=inputs, padding=real.cpu(), lengths=lengths)


def _alike_apart(model: nn.Module) -> bool:
    """Whether two rows have the logits that each has alone; a classifier has one vector of them for each row."""
    device, longest = next(model.parameters()).device, max(PROBE_LENGTHS)
    pad = getattr(model.config, "pad_token_id", None) or 0
    words = [token for token in range(longest + 1) if token != pad][:longest]
    ids = torch.tensor([[*words[:length], *[pad] * (longest - length)] for length in PROBE_LENGTHS], device=device)
    batch = Batch({"input_ids": ids}, ids, sum(PROBE_LENGTHS), lengths=PROBE_LENGTHS)
    with torch.no_grad(), computing(model):
        with RowsApart(model).of(batch):
            together = _logits(model, ids)
        alone = [_logits(model, ids[row : row + 1, :length])[0] for row, length in enumerate(PROBE_LENGTHS)]
    if alone[0].ndim == 2:
        together = torch.cat([together[row, :length] for row, length in enumerate(PROBE_LENGTHS)])
        return alike(together, torch.cat(alone), compute_type(model))
    return alike(together, torch.stack(alone), compute_type(model))


def _logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    logits: torch.Tensor = model(input_ids=ids).logits
    return logits


check_padding_free = Probe(
    "padding_free",
    _("batches need padding"),
    _alike_apart,
    raised=_("its blocks do not accept rows without padding"),
    differed=_("rows would influence each other"),
).check
