"""Padding-free batches: the blocks of a model compute the tokens of a batch one row after another, without padding.

    rows       a b c d        embeddings and head    [B, T, H]   padded, as the model's own code expects
               e f – –        blocks                 [1, N, H]   a b c d e f, with the N tokens of the rows
               g – – –        attention              within each row: a b c d | e f | g

Tokens meet each other in attention alone, so a row has the same loss and gradients as in a padded batch. Positions are
added before the blocks or passed to each of them, both still padded, and lose their padding with the rest.

On a CPU the row gets a few more tokens, up to a multiple of `CPU_MULTIPLE`: oneDNN prepares a matrix product anew for
each number of rows that it has not seen, which takes as long as the product of a small model itself.

Attention is transformers' `sdpa` (`AttentionInterface`), replaced for as long as rows lie side by side: on CUDA in half
precision and without dropout by torch's variable-length attention (`torch.nn.attention.varlen`, FlashAttention's
kernels), elsewhere by one call for each row. No architecture is named here: each model is probed before training, and
one whose logits differ is refused.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from typing import Any

import torch
from torch import nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from app.domain.messages import _
from worker.engine.data.batches.batches import Batch
from worker.engine.data.probing import PROBE_LENGTHS, Probe
from worker.engine.models.architecture import block_names
from worker.engine.models.precision import alike, compute_type, computing


def _kernel() -> Callable[..., Any] | None:
    """torch's variable-length attention; None in versions that lack it, or its windows and groups."""
    try:
        kernel: Callable[..., Any] = import_module("torch.nn.attention.varlen").varlen_attn
    except (ImportError, AttributeError):
        return None
    return kernel if {"window_size", "enable_gqa"} <= set(inspect.signature(kernel).parameters) else None


KERNEL = _kernel()
_CHANGING = ("position_bias", "softcap", "s_aux", "sliding_window")
"""Options of attention that change its result and that the kernel is not given. Models pass others to every kind of
attention, which ignores them: `position_ids`, `use_cache`, `encoder_hidden_states`."""
CPU_MULTIPLE = 32
"""The tokens of a batch on a CPU are a multiple of this."""
_Attention = Callable[..., tuple[torch.Tensor, None]]


class RowsApart:
    """Hooks on a model's blocks, and the attention between them; inactive outside `of`."""

    def __init__(self, model: nn.Module, as_one: bool = False) -> None:
        """`as_one`: attention over all tokens in one call, which has the memory of the variable-length kernel, not its
        values. For estimates."""
        self._blocks = [model.get_submodule(name) for name in block_names(model)]
        self._as_one = as_one
        self._lengths: Sequence[int] = ()
        self._shape = (0, 0)
        self._places = self._sources = self._ends = torch.empty(0)

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
        self._lengths = (*batch.lengths, filling) if filling else batch.lengths
        self._shape = (rows, longest)
        ends = [sum(self._lengths[:row]) for row in range(len(self._lengths) + 1)]
        self._ends = torch.tensor(ends, dtype=torch.int32, device=device)
        own: _Attention = ALL_ATTENTION_FUNCTIONS["sdpa"]
        handles = [block.register_forward_pre_hook(self._enter, with_kwargs=True) for block in self._blocks]
        handles.append(self._blocks[-1].register_forward_hook(self._leave))
        ALL_ATTENTION_FUNCTIONS.register("sdpa", lambda *args, **options: self._attend(own, *args, **options))
        try:
            yield
        finally:
            ALL_ATTENTION_FUNCTIONS.register("sdpa", own)
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

    def _attend(
        self,
        own: _Attention,
        module: nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        dropout: float = 0.0,
        scaling: float | None = None,
        is_causal: bool | None = None,
        **options: Any,
    ) -> tuple[torch.Tensor, None]:
        """Query, key and value [1, heads, N, D] to [1, N, heads, D]."""
        causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
        if self._as_one:
            return own(module, query, key, value, None, dropout, scaling, causal, **options)
        dtype = kernel_dtype(query, value, dropout, options) if has_kernel(query.device) else None
        if KERNEL is not None and dtype is not None:
            q, k, v = (x.to(dtype) for x in (query, key, value))
            return in_one_call(KERNEL, q, k, v, self._ends, max(self._lengths), causal, scaling), None
        # `split`, whose backward pass is one concatenation; that of a slice would fill the whole tensor for each row.
        parts = (torch.split(x, list(self._lengths), dim=2) for x in (query, key, value))
        rows = zip(*parts, strict=True)
        outputs = [own(module, q, k, v, None, dropout, scaling, causal, **options)[0] for q, k, v in rows]
        return torch.cat(outputs, dim=1), None


def has_kernel(device: torch.device) -> bool:
    """Whether torch's variable-length attention runs on a device: FlashAttention needs compute capability 8.0."""
    return KERNEL is not None and device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


def kernel_dtype(
    query: torch.Tensor, value: torch.Tensor, dropout: float, options: dict[str, Any]
) -> torch.dtype | None:
    """The dtype of the kernel's arguments: autocast's, which does not cast for it, or the query's own. None if the
    kernel cannot compute this attention: float32, dropout, an option that changes the result, or heads whose size is
    not a multiple of 8 up to 256."""
    device, size = query.device.type, query.shape[-1]
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else query.dtype
    half = dtype in (torch.float16, torch.bfloat16)
    fits = size == value.shape[-1] and size % 8 == 0 and size <= 256
    changed = any(options.get(name) is not None for name in _CHANGING)
    return dtype if half and fits and not dropout and not changed else None


def in_one_call(
    kernel: Callable[..., Any],
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    ends: torch.Tensor,
    longest: int,
    causal: bool,
    scaling: float | None,
) -> torch.Tensor:
    """Attention within rows by torch's `varlen_attn`, which takes [N, heads, D] and the places where rows end [B + 1].
    Returns [1, N, heads, D]."""
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    window, grouped = (-1, 0 if causal else -1), query.shape[1] != key.shape[1]
    mixed: torch.Tensor = kernel(
        q, k, v, ends, ends, longest, longest, scale=scaling, window_size=window, enable_gqa=grouped
    )
    return mixed.unsqueeze(0)


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
