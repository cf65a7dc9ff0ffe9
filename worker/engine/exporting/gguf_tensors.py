"""Tensors of a GGUF file: their names, and what llama.cpp expects them to hold.

    Llama       rows of q and k are interleaved per head: rotary embedding turns pairs of neighbours there, and rows
                i and i + d/2 in transformers
    Gemma       norms are stored as w + 1, since llama.cpp multiplies by them and Gemma by w + 1

Source of the names: the GGUF specification (ggml-org/ggml, docs/gguf.md).
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch

from app.domain.failures import FailureCode, RunFailed
from app.domain.messages import _

OUTER = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
INNER = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
"""Modules of a block."""
GEMMA = {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
BLOCK = "model.layers."


class Placed(NamedTuple):
    """A tensor of the model and its place in the file."""

    name: str
    """The name in transformers, such as `model.layers.0.self_attn.q_proj.weight`."""
    gguf: str
    """The name in the file, such as `blk.0.attn_q.weight`."""


def placed(config: Any, names: Iterable[str]) -> list[Placed]:
    """The place of each tensor, in order. Raises `RunFailed(bad_configuration)` for one without a place."""
    return [Placed(name, _place(config, name)) for name in names]


def _place(config: Any, name: str) -> str:
    module, _dot, leaf = name.rpartition(".")
    inner = INNER | GEMMA if gemma(config) else INNER
    if module in OUTER:
        return f"{OUTER[module]}.{leaf}"
    block, _dot, part = module.removeprefix(BLOCK).partition(".")
    if not module.startswith(BLOCK) or part not in inner:
        text = _("GGUF has no place for %(name)s in a model of type %(type)s.", name=name, type=config.model_type)
        raise RunFailed(FailureCode.BAD_CONFIGURATION, text)
    return f"blk.{block}.{inner[part]}.{leaf}"


def values(config: Any, place: Placed, tensor: torch.Tensor) -> torch.Tensor:
    """The tensor as the file holds it before quantization, float32."""
    tensor = tensor.detach().float()
    if gemma(config) and place.gguf.endswith("norm.weight"):
        return tensor + 1
    if config.model_type == "llama" and ".attn_q." in place.gguf:
        return _interleaved(tensor, config.num_attention_heads)
    if config.model_type == "llama" and ".attn_k." in place.gguf:
        return _interleaved(tensor, config.num_key_value_heads)
    return tensor


def gemma(config: Any) -> bool:
    return str(config.model_type).startswith("gemma")


def _interleaved(tensor: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows [heads, 2, d/2] as [heads, d/2, 2]."""
    half = tensor.shape[0] // heads // 2
    return tensor.reshape(heads, 2, half, *tensor.shape[1:]).transpose(1, 2).reshape(tensor.shape).contiguous()
