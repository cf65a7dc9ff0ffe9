"""Attention: the one function that models on transformers' `sdpa` (`AttentionInterface`) call here.

Models such as BERT drop attention weights. torch's SDPA has no fast CPU kernel for that and falls back to one that
makes many passes over the B·H·T·T weights; here the same formula takes four passes.

Nor does SDPA have a fast CPU kernel for one query per head, as in generation: it prepares keys and values for every
head. Heads that share keys (grouped-query attention) are passed to it as queries of one head: the same sums, in a
fifth of the time with groups of three.

Rows that lie side by side (`padding_free`) attend within themselves: on CUDA in half precision and without dropout by
torch's variable-length attention (`torch.nn.attention.varlen`, FlashAttention's kernels), elsewhere by one call for
each row. Everything else is torch's own attention.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from worker.engine.models.dropout import Dropout, drop

Drawn = Callable[[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]], torch.Tensor]
_drawn: Drawn | None = None
"""Applies a dropout to parts of attention weights, where their masks are drawn part by part."""


@contextmanager
def drawn_by(drawn: Drawn) -> Iterator[None]:
    """Attention draws its masks in this way."""
    global _drawn
    _drawn = drawn
    try:
        yield
    finally:
        _drawn = None


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


@dataclass(frozen=True)
class Rows:
    """Rows that lie side by side in one row of tokens."""

    lengths: tuple[int, ...]
    ends: torch.Tensor
    """Where rows end, [B + 1], int32, from 0."""
    as_one: bool = False
    """All tokens in one call, which has the memory of the variable-length kernel, not its values. For estimates."""


_rows: Rows | None = None
"""Not a context variable: recomputation calls attention from the threads of the backward pass."""


def use_cpu_kernels(model: nn.Module) -> None:
    """Let a model on a CPU use `Dropout`, and `attend` where transformers calls its attention by `sdpa`."""
    ALL_ATTENTION_FUNCTIONS.register("sdpa", attend)
    for module in model.modules():
        if type(module) is nn.Dropout:
            module.__class__ = Dropout


@contextmanager
def within_rows(rows: Rows) -> Iterator[None]:
    """Tokens attend within these rows alone, in forward and backward passes."""
    global _rows
    ALL_ATTENTION_FUNCTIONS.register("sdpa", attend)
    _rows = rows
    try:
        yield
    finally:
        _rows = None


def attend(
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
    """Attention as transformers calls it: query [B, H, T, D], key and value [B, H or fewer, S, D] to [B, T, H, D].

    `attention_mask` [B, 1 or H, T, S] is True where a query sees a key, or is added to the scores. Rows side by side
    are one row without a mask, B = 1.
    """
    causal = bool(getattr(module, "is_causal", True)) if is_causal is None else is_causal
    if _rows is None:
        return _together(module, query, key, value, attention_mask, dropout, scaling, causal, **options)
    if _rows.as_one:
        return _together(module, query, key, value, None, dropout, scaling, causal, **options)
    dtype = kernel_dtype(query, value, dropout, options) if has_kernel(query.device) else None
    if KERNEL is not None and dtype is not None:
        q, k, v = (x.to(dtype) for x in (query, key, value))
        return in_one_call(KERNEL, q, k, v, _rows, causal, scaling), None
    # `split`, whose backward pass is one concatenation; that of a slice would fill the whole tensor for each row.
    parts = (torch.split(x, list(_rows.lengths), dim=2) for x in (query, key, value))
    rows = zip(*parts, strict=True)
    outputs = [_together(module, q, k, v, None, dropout, scaling, causal, **options)[0] for q, k, v in rows]
    return torch.cat(outputs, dim=1), None


def _together(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float,
    scaling: float | None,
    causal: bool,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Without dropout, and wherever there is more to it than the formula, torch's own attention does it."""
    special = any(option is not None for option in (options.get("position_bias"), options.get("softcap")))
    batch, heads, queries, width = query.shape
    groups = heads // key.shape[1]
    if dropout == 0 and not special and query.device.type == "cpu" and queries == 1 < groups and _same(attention_mask):
        mixed = functional.scaled_dot_product_attention(
            query.reshape(batch, -1, groups, width), key, value, attn_mask=attention_mask, scale=scaling
        )
        return mixed.reshape(batch, 1, heads, -1), None
    if dropout == 0 or special or query.device.type != "cpu":
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, causal, **options)
    key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    scores = torch.baddbmm(
        query.new_empty(()),
        query.reshape(-1, queries, width),
        key.reshape(-1, key.shape[2], width).transpose(1, 2),
        beta=0,
        alpha=width**-0.5 if scaling is None else scaling,
    ).view(batch, heads, queries, key.shape[2])
    bias = _bias(attention_mask, causal and queries > 1, scores)
    weights = (scores if bias is None else scores + bias).softmax(-1)
    weights = drop(weights, dropout) if _drawn is None else _drawn(weights, partial(drop, p=dropout))
    mixed = torch.bmm(weights.flatten(0, 1), value.reshape(-1, *value.shape[2:]))
    return mixed.view(batch, heads, queries, -1).transpose(1, 2).contiguous(), None


def _same(mask: torch.Tensor | None) -> bool:
    """Whether a mask is the same for every head."""
    return mask is None or (mask.ndim == 4 and mask.shape[1] == 1)


def _bias(mask: torch.Tensor | None, causal: bool, scores: torch.Tensor) -> torch.Tensor | None:
    """The mask to add to the scores [B, H, T, S]; None if every query attends to every key."""
    if mask is None:
        if not causal:
            return None
        queries, keys = scores.shape[2:]
        mask = torch.ones(queries, keys, dtype=torch.bool).tril()
    if mask.dtype != torch.bool:
        return mask
    return scores.new_zeros(mask.shape).masked_fill_(~mask, torch.finfo(scores.dtype).min)


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
    rows: Rows,
    causal: bool,
    scaling: float | None,
) -> torch.Tensor:
    """Attention within rows by torch's `varlen_attn`, which takes [N, heads, D]. Returns [1, N, heads, D]."""
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    window, grouped = (-1, 0 if causal else -1), query.shape[1] != key.shape[1]
    longest = max(rows.lengths)
    mixed: torch.Tensor = kernel(
        q, k, v, rows.ends, rows.ends, longest, longest, scale=scaling, window_size=window, enable_gqa=grouped
    )
    return mixed.unsqueeze(0)
