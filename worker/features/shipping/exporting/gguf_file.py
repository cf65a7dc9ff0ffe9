"""Write a merged model as one GGUF file, and load it with transformers.

Tensors of a GGUF file: their names, and what llama.cpp expects them to hold.

    Llama       rows of q and k are interleaved per head: rotary embedding turns pairs of neighbours there, and rows
                i and i + d/2 in transformers
    Gemma       norms are stored as w + 1, since llama.cpp multiplies by them and Gemma by w + 1

Source of the names: the GGUF specification (ggml-org/ggml, docs/gguf.md).
"""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from gguf import GGML_QUANT_VERSION, MODEL_ARCH_NAMES, GGMLQuantizationType, GGUFWriter, LlamaFileType
from gguf.quants import dequantize, quantize
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from app.domain.failures import FailureCode, RunFailed
from app.domain.messages import _
from app.domain.models.exports import ExportFormat
from app.domain.models.gguf import stored_as, tensor_bytes
from worker.features.shipping.exporting import gguf_tokenizer
from worker.features.shipping.exporting.progress import Report

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


ARCHITECTURES = {"gemma3_text": "gemma3"}
"""GGUF's names where they differ from transformers' model types."""
COMPUTES = (
    "attention_bias",
    "attn_logit_softcapping",
    "final_logit_softcapping",
    "head_dim",
    "hidden_act",
    "hidden_activation",
    "hidden_size",
    "intermediate_size",
    "layer_types",
    "mlp_bias",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "query_pre_attn_scalar",
    "rms_norm_eps",
    "rope_parameters",
    "tie_word_embeddings",
)
"""Settings of a model's configuration that change what it computes."""
RELATIVE = 1e-6
"""GGUF stores numbers in float32."""


def file_name(form: ExportFormat) -> str:
    """`model-Q8_0.gguf`."""
    return f"model-{form.gguf}.gguf"


def rounded(tensor: torch.Tensor, form: ExportFormat) -> torch.Tensor:
    """Numbers as a file of a format leaves them: float64."""
    stored = GGMLQuantizationType[stored_as(tensor.shape, form.gguf)]
    values = dequantize(quantize(tensor.float().numpy(), stored), stored)
    return torch.from_numpy(values.astype(np.float64)).reshape(tensor.shape)


def write(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, form: ExportFormat, report: Report
) -> None:
    """Write a model with its tokenizer, and report after each tensor. Raises `RunFailed(bad_configuration)` for a
    model, a setting or a tokenizer that GGUF or transformers' reader of it has no place for."""
    config: Any = model.config
    path = folder / file_name(form)
    writer = GGUFWriter(path, ARCHITECTURES.get(config.model_type, config.model_type))
    if writer.arch not in MODEL_ARCH_NAMES.values():
        text = _("GGUF has no architecture %(type)s.", type=config.model_type)
        raise RunFailed(FailureCode.BAD_CONFIGURATION, text)
    _describe(writer, config, form)
    gguf_tokenizer.describe(writer, tokenizer, config.vocab_size)
    parameters = dict(model.named_parameters())
    places = placed(config, parameters)
    for place in places:
        shape = parameters[place.name].shape
        kind = stored_as(shape, form.gguf)
        raw = GGMLQuantizationType[kind]
        # the shape is that of the values, so the dtype must not be the one of quantized bytes
        writer.add_tensor_info(place.gguf, shape, np.dtype(np.float32), tensor_bytes(shape, kind), raw_dtype=raw)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for done, place in enumerate(places, 1):
        tensor = values(config, place, parameters[place.name])
        stored = GGMLQuantizationType[stored_as(tensor.shape, form.gguf)]
        writer.write_tensor_data(quantize(tensor.numpy(), stored))
        report(done / len(places))
    writer.close()
    _refuse_unread_settings(config, path)


def load(folder: Path, form: ExportFormat) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model as transformers loads it, dequantized to float32, and its tokenizer from the same file."""
    options: dict[str, Any] = {"gguf_file": file_name(form)}
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **options)
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, **options)
    return model.eval(), tokenizer


def _describe(writer: GGUFWriter, config: Any, form: ExportFormat) -> None:
    rope = config.rope_parameters
    whole = rope.get("full_attention", rope)
    kind = "ALL_F32" if form.gguf == "F32" else f"MOSTLY_{form.gguf}"
    writer.add_type("model")
    writer.add_name(str(config._name_or_path))
    writer.add_file_type(LlamaFileType[kind])
    writer.add_quantization_version(GGML_QUANT_VERSION)
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(whole["rope_theta"])
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_rope_dimension_count(width)
    writer.add_key_length(width)
    writer.add_value_length(width)
    if gemma(config):
        if config.query_pre_attn_scalar != width:
            text = _(
                "llama.cpp divides Gemma's attention scores by the root of head_dim (%(width)s), and the model by the "
                "root of query_pre_attn_scalar (%(scalar)s). Choose merged-bfloat16.",
                width=width,
                scalar=str(config.query_pre_attn_scalar),
            )
            raise RunFailed(FailureCode.BAD_CONFIGURATION, text)
        writer.add_sliding_window(config.sliding_window)
        if "sliding_attention" in rope:
            writer.add_rope_freq_base_swa(rope["sliding_attention"]["rope_theta"])
        if config.attn_logit_softcapping:
            writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
        if config.final_logit_softcapping:
            writer.add_final_logit_softcapping(config.final_logit_softcapping)


def _refuse_unread_settings(config: Any, path: Path) -> None:
    """Raise `RunFailed` if transformers reads another model from the file: it knows some settings by their default
    only, and the gate would score another model than the one that trained."""
    read: Any = AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
    for name in COMPUTES:
        ours, theirs = _plain(getattr(config, name, None)), _plain(getattr(read, name, None))
        if not _same(ours, theirs):
            text = _(
                "transformers reads %(name)s = %(theirs)s from the GGUF file, and the model has %(ours)s, so its "
                "scores cannot be checked. Choose merged-bfloat16.",
                name=name,
                theirs=str(theirs),
                ours=str(ours),
            )
            raise RunFailed(FailureCode.BAD_CONFIGURATION, text)


def _plain(value: Any) -> Any:
    """A rope dictionary without what has no effect."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items() if part is not None}
    return value


def _same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(_same(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, float) or isinstance(theirs, float):
        return ours is not None and theirs is not None and math.isclose(ours, theirs, rel_tol=RELATIVE)
    return bool(ours == theirs)
