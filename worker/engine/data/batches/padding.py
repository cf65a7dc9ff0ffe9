"""Test whether a causal model needs a mask for rows that are padded on the right.

    row    a b c –        c attends to a, b and c: the padding is to its right, and out of sight with or without a mask

Without a mask, SDPA may use its fastest kernels, and no layer saves a bias for the backward pass. Some architectures
use the mask for more than attention, so each is probed: a small model of the same architecture, with random weights,
has to give the same logits and gradients at real tokens. It is built from the configuration alone, so that an estimate,
which has no weights, answers as the run does.
"""

import copy
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

_LENGTHS = (9, 5)
"""Lengths of the rows that probe a model."""
_TOLERANCE = 1e-5
"""Relative difference of the norms; float32 has a precision of 1.2e-7."""
_VOCABULARY, _LAYERS, _HEADS, _WIDTH, _WINDOW, _EXPERTS = 64, 2, 2, 64, 4, 8
_SIZES = {
    "vocab_size": _VOCABULARY,
    "intermediate_size": _WIDTH,
    "moe_intermediate_size": _WIDTH,
    "ffn_dim": _WIDTH,
    "n_inner": _WIDTH,
    "num_local_experts": _EXPERTS,
    "num_experts": _EXPERTS,
    "sliding_window": _WINDOW,
    "attention_chunk_size": _WINDOW,
    "window_size": _WINDOW,
}
"""Upper limits of entries that a configuration may have."""
_ANSWERS: dict[str, bool] = {}
"""Cached answers, by the configuration's JSON."""


def needs_padding_mask(config: PreTrainedConfig) -> bool:
    """Whether a causal language model of this configuration needs a mask for padding on the right. True also where
    that cannot be probed. Takes about 50 ms, once per configuration; draws no random number."""
    key = config.to_json_string(use_diff=False)
    if key not in _ANSWERS:
        _ANSWERS[key] = _probe(config)
    return _ANSWERS[key]


def _probe(config: PreTrainedConfig) -> bool:
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        return True
    try:
        with torch.random.fork_rng([]), torch.inference_mode(False), torch.enable_grad():
            torch.manual_seed(0)
            return not _alike(_small(config))
    except MemoryError:
        raise
    except Exception:  # an architecture may raise anything for sizes that it does not support: it keeps its mask
        return True


def _small(config: PreTrainedConfig) -> Any:
    """A model of the architecture with few and narrow layers, one of each type, in float32 on the CPU."""
    supported = getattr(MODEL_FOR_CAUSAL_LM_MAPPING[type(config)], "_supports_sdpa", False)
    config = copy.deepcopy(config)
    text: Any = config.get_text_config()
    width, heads = text.hidden_size, text.num_attention_heads
    head_size = getattr(text, "head_dim", None) or width // heads
    for name in ("num_key_value_heads", "num_kv_heads"):
        if isinstance(shared := getattr(text, name, None), int):
            setattr(text, name, _HEADS if shared == heads else 1)
    for name, most in _SIZES.items():
        if isinstance(size := getattr(text, name, None), int) and not isinstance(size, bool):
            setattr(text, name, min(size, most))
    if getattr(text, "word_embed_proj_dim", None) == width:
        text.word_embed_proj_dim = _HEADS * head_size
    text.hidden_size, text.num_attention_heads = _HEADS * head_size, _HEADS
    if kinds := getattr(text, "layer_types", None):
        text.layer_types = list(dict.fromkeys(kinds))
    text.num_hidden_layers = len(text.layer_types) if kinds else min(_LAYERS, text.num_hidden_layers)
    text.pad_token_id = None
    model: Any = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
        config, attn_implementation="sdpa" if supported else "eager", dtype=torch.float32
    )
    return model.to("cpu").eval()


def _alike(model: Any) -> bool:
    """Whether logits and gradients at real tokens are the same with and without the mask."""
    longest = max(_LENGTHS)
    mask = torch.tensor([[place < length for place in range(longest)] for length in _LENGTHS]).long()
    ids = torch.randint(1, model.get_input_embeddings().weight.shape[0], mask.shape) * mask

    def results(**masks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        model.zero_grad()
        logits = model(input_ids=ids, use_cache=False, **masks).logits[mask.bool()]
        logits.logsumexp(1).sum().backward()
        gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
        return logits.detach(), torch.cat(gradients)

    pairs = zip(results(), results(attention_mask=mask), strict=True)
    return all(bool((without - masked).norm() <= _TOLERANCE * masked.norm()) for without, masked in pairs)
