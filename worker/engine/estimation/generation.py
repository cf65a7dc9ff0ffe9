"""The memory of generation, on fake tensors: keys and values of all tokens that were read or generated.

    prefill   prompts [B, P] at once: keys and values [B, heads, P, D] of every layer stay
    decode    the last of N tokens: each layer's keys and values are copied into [B, heads, P + N, D], one layer after
              another, while those of the other layers exist

The last generated token needs the most. In an encoder-decoder, the keys and values of the encoder's output stay the
same while those of the decoder grow.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch

from worker.engine.memory.ledger import Journal

Follow = Callable[[], AbstractContextManager[Journal]]


def writing_peak(model: Any, follow: Follow, ids: torch.Tensor, mask: torch.Tensor | None, new: int) -> int:
    """Peak bytes of reading prompts [B, P] and generating `new` tokens, weights included.

    `model` is the one with the language-model head, on fake tensors, in evaluation mode; call it inside their mode.
    """
    if model.config.is_encoder_decoder:
        return _text_to_text(model, follow, ids, mask, new)
    prompt = ids.shape[1]
    last = {"logits_to_keep": 1} if model._supports_logits_to_keep() else {}
    with follow() as journal:
        _read = model(input_ids=ids, attention_mask=mask, use_cache=True, **last).logits[:, -1].float()
    reading = _peak(journal)
    if new == 1:
        return reading
    before = model(input_ids=_longer(ids, prompt + new - 1), use_cache=True, **last).past_key_values
    longer_mask = None if mask is None else _longer(mask, prompt + new)
    writing = _last_token(model, follow, before, {"input_ids": ids[:, :1], "attention_mask": longer_mask, **last})
    return max(reading, writing)


def _text_to_text(model: Any, follow: Follow, ids: torch.Tensor, mask: torch.Tensor | None, new: int) -> int:
    with follow() as journal:
        read = model.get_encoder()(input_ids=ids, attention_mask=mask)
    reading = _peak(journal)
    inputs = {"encoder_outputs": read, "attention_mask": mask}
    before = model(**inputs, decoder_input_ids=_longer(ids, max(1, new - 1)), use_cache=True).past_key_values
    writing = _last_token(model, follow, before, {**inputs, "decoder_input_ids": ids[:, :1]})
    return max(reading, writing + _bytes(read[0]))


def _last_token(model: Any, follow: Follow, before: Any, inputs: dict[str, Any]) -> int:
    """`before` are the keys and values so far, which the model replaces."""
    old = {tensor.untyped_storage()._cdata: tensor for tensor in _tensors(before)}
    with follow() as journal:
        _written = model(**inputs, past_key_values=before, use_cache=True).logits[:, -1].float()
    shared = sum(_bytes(t) for t in _tensors(before) if t.untyped_storage()._cdata in old)
    copied = max((_bytes(t) for t in old.values()), default=0)
    return _peak(journal) + shared + copied


def _peak(journal: Journal) -> int:
    return journal.ledger("estimated", None, rows=0, length=0).total


def _tensors(cache: Any) -> Iterator[torch.Tensor]:
    """Keys and values of every layer of transformers' cache, or of the two caches of an encoder-decoder."""
    names = ("self_attention_cache", "cross_attention_cache")
    for part in [getattr(cache, name) for name in names if hasattr(cache, name)] or [cache]:
        for layer in part.layers:
            yield from (t for t in (layer.keys, layer.values) if isinstance(t, torch.Tensor))


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _longer(tensor: torch.Tensor, length: int) -> torch.Tensor:
    return tensor.new_ones((tensor.shape[0], length))
