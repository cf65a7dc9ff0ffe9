"""The attention weights of every head for a sentence, before and after a run.

    P = softmax(Q·Kᵀ / √d)      P [n, n] of a head, each row sums to 1; a decoder masks what follows a token

Computed in float32 by transformers' own implementation that returns the weights ("eager"). Of an encoder-decoder it is
the encoder's attention.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn
from transformers import AutoModel
from transformers.pytorch_utils import Conv1D

from app.domain.messages import _
from app.features.lab.computations import MOST_TOKENS, Attention, AttentionRequest, packed
from worker.engine.baselines.small_model import impossible, load_small
from worker.features.lab.layers import linear_layer

PEFT_PREFIX, A, B = "base_model.model.", ".lora_A.weight", ".lora_B.weight"


def take_weights(model: nn.Module, file: Path) -> None:
    """Replace the model's weights by those of a file. Raises `RunFailed` if the file lacks a weight that the forward
    pass uses."""
    own = dict(model.named_parameters())
    with torch.no_grad(), safe_open(str(file), "pt") as stored:
        for name in stored.keys():  # noqa: SIM118 a file, not a mapping
            known = next((n for n in (name, name.partition(".")[2]) if n in own), None)
            if known is not None:
                own.pop(known).copy_(stored.get_tensor(name))
    if lacking := [name for name in own if not name.startswith("pooler.")]:
        raise impossible(_("The weights of the run lack %(name)s of the base model.", name=lacking[0]))


def add_lora(model: nn.Module, file: Path, scale: float) -> None:
    """Add scale · B·A to every layer that an adapter names. Raises `RunFailed` if the model lacks one."""
    with torch.no_grad(), safe_open(str(file), "pt") as stored:
        for name in stored.keys():  # noqa: SIM118 a file, not a mapping
            if not name.endswith(A):
                continue
            layer = linear_layer(model, name.removeprefix(PEFT_PREFIX).removesuffix(A))
            update = scale * (stored.get_tensor(name.removesuffix(A) + B).float() @ stored.get_tensor(name).float())
            layer.weight.add_(update.T if isinstance(layer, Conv1D) else update)


BLANK = "␣"
"""Stands for a token of white space."""
PARTIAL = "\N{REPLACEMENT CHARACTER}"
"""Occurs in the text of a token that holds only some bytes of a character."""


def attention(request: AttentionRequest, files: Mapping[str, Path]) -> Attention:
    """Compute the attention weights. Raises `RunFailed` if the model has no attention or the run's weights do not fit
    it."""
    tokenizer, model = load_small(request, AutoModel)
    model.set_attn_implementation("eager")
    reading = model.get_encoder() if model.config.is_encoder_decoder else model
    whole = tokenizer(request.sentence)["input_ids"]
    encoded = tokenizer(request.sentence, truncation=True, max_length=MOST_TOKENS, return_offsets_mapping=True)
    ids = encoded["input_ids"]
    before = _weights(reading, ids)
    if "full_file" in files:
        take_weights(model, files["full_file"])
    if "lora_file" in files:
        add_lora(model, files["lora_file"], request.lora_scale)
    return Attention(
        tokens=[
            _shown(tokenizer.decode([token]), request.sentence[start:end])
            for token, (start, end) in zip(ids, encoded["offset_mapping"], strict=True)
        ],
        cut=len(whole) > len(ids),
        before=before,
        after=_weights(reading, ids) if files else [],
    )


def _weights(model: Any, ids: list[int]) -> list[list[str]]:
    with torch.inference_mode():
        answer = model(input_ids=torch.tensor([ids]), output_attentions=True)
    layers = [layer[0].float().numpy() for layer in answer.attentions or () if layer is not None]
    if not layers:
        text = _("transformers returns no attention weights of this architecture. Choose another base model.")
        raise impossible(text)
    return [[packed(head) for head in layer] for layer in layers]


def _shown(text: str, source: str) -> str:
    """A token as a text, without spaces around it; for a part of a character, that character and a sign that it is
    one."""
    return f"{source.strip()}…" if PARTIAL in text else text.strip() or BLANK
