"""Dropout (Srivastava et al. 2014, JMLR 15) for training on a CPU, where the random numbers cost more than the
arithmetic.

    y = x · m / (1 − p)      m is 0 with probability p, else 1

torch draws one random number per element. Here one draw of 64 bits serves four elements: an element is kept if its 16
bits, as a signed integer, are at least a threshold. So p is rounded to a multiple of 1/65536, and the scaling factor
uses the rounded p, which keeps the mean exact. The factor is applied to the product x · m, where torch rounds once: a
mask that holds it would round it to 1.1094 for p = 0.1 in bfloat16, and lose 0.15 % of every mean. The bits come from
torch's own generator, so seeds and checkpoints apply.

Models such as BERT also drop attention weights. torch's SDPA has no fast CPU kernel for that and falls back to one that
makes many passes over the B·H·T·T weights; `attend` computes the same formula in four passes.

Nor does SDPA have a fast CPU kernel for one query per head, as in generation: it prepares keys and values for every
head. Heads that share keys (grouped-query attention) are passed to it as queries of one head: the same sums, in a
fifth of the time with groups of three.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

_LEVELS = 2**16
Drawn = Callable[[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]], torch.Tensor]
_drawn: Drawn | None = None
"""Applies a dropout to parts of attention weights, where their masks are drawn part by part."""


@contextmanager
def drawn_by(drawn: Drawn) -> Iterator[None]:
    """Let attention draw its masks in this way."""
    global _drawn
    _drawn = drawn
    try:
        yield
    finally:
        _drawn = None


def drop(x: torch.Tensor, p: float) -> torch.Tensor:
    """x · m / (1 − p), on the CPU."""
    dropped = round(p * _LEVELS)
    return (x * _kept(x, dropped)).mul_(_LEVELS / (_LEVELS - dropped))


def _kept(x: torch.Tensor, dropped: int) -> torch.Tensor:
    """m, of the shape and dtype of x; the draws are freed before it is used."""
    # torch.compile cannot trace the draws: in a graph they are one operation.
    return _kept_in_graph(x.detach(), dropped) if torch.compiler.is_compiling() else _draw(x, dropped)


def _draw(x: torch.Tensor, dropped: int) -> torch.Tensor:
    draws = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    decisions = draws.view(torch.int16)[: x.numel()].view(x.shape) >= dropped - _LEVELS // 2
    return decisions.to(x.dtype)


# Its argument is x itself and not the shape: torch takes two operations with equal arguments for one.
_kept_in_graph = torch.library.custom_op(
    "vezna::kept", _draw, mutates_args=(), tags=(torch.Tag.nondeterministic_seeded,)
)
_kept_in_graph.register_fake(lambda x, dropped: torch.empty_like(x, memory_format=torch.contiguous_format))


class Dropout(nn.Dropout):
    """`nn.Dropout` with the draws above."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """[…] to the same shape; unchanged in evaluation mode."""
        if not self.training or not 0 < self.p < 1:
            return super().forward(input)
        return drop(input, self.p)


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

    `attention_mask` [B, 1 or H, T, S] is True where a query sees a key, or is added to the scores. Without dropout, and
    wherever there is more to it than the formula, torch's own attention does it.
    """
    special = any(option is not None for option in (options.get("position_bias"), options.get("softcap")))
    batch, heads, queries, width = query.shape
    groups = heads // key.shape[1]
    if dropout == 0 and not special and query.device.type == "cpu" and queries == 1 < groups and _same(attention_mask):
        mixed = functional.scaled_dot_product_attention(
            query.reshape(batch, -1, groups, width), key, value, attn_mask=attention_mask, scale=scaling
        )
        return mixed.reshape(batch, 1, heads, -1), None
    if dropout == 0 or special or query.device.type != "cpu":
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, is_causal, **options)
    key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
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


def disable_dropout(model: nn.Module) -> None:
    """For good: in modules, and in attention and functions, which read a number of their module by this name."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():
            if isinstance(value, float) and "dropout" in name:
                setattr(module, name, 0.0)


def use_fast_dropout(model: nn.Module) -> None:
    """Let a model that trains on a CPU drop as above, its attention too where transformers calls it by `sdpa`."""
    ALL_ATTENTION_FUNCTIONS.register("sdpa", attend)
    for module in model.modules():
        if type(module) is nn.Dropout:
            module.__class__ = Dropout
