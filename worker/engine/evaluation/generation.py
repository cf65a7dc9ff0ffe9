"""Greedy decoding after a prompt.

The most probable token is chosen each time, until an end-of-text token or `max_new_tokens`. Of the model's own
generation defaults only the start and end tokens are kept; sampling, beams, penalties and lengths are not, so that arms
differ by their weights alone.

On a CPU, ended rows leave their batch: when a quarter of the rows have ended, generation is interrupted and continues
with the keys and values of the others.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from inspect import signature
from time import monotonic
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel
from torch import nn
from transformers import DynamicCache, GenerationConfig, PreTrainedTokenizerBase, StoppingCriteria, StoppingCriteriaList

from worker.engine.data.batches.batches import padded
from worker.engine.data.batches.order import evaluation_order, heaviest_to_generate
from worker.engine.evaluation.evaluate import Evaluator

_LOG_SECONDS = 60.0
"""Seconds between two progress lines in the log."""
_ENDED_SHARE = 1 / 4
"""Share of a batch's rows that must have ended before they are dropped and the others continue."""


def write(
    model: nn.Module,
    prompts: Sequence[NDArray[np.int32]],
    tokenizer: PreTrainedTokenizerBase,
    evaluator: Evaluator,
) -> list[str]:
    """Generate a text after each prompt, without special tokens. Can be stopped between two tokens."""
    inner: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    encoder_decoder, stops = bool(inner.config.is_encoder_decoder), stop_tokens(inner.generation_config, tokenizer)
    texts, count, logged_at = [""] * len(prompts), 0, monotonic()
    batches = evaluation_order([len(prompt) for prompt in prompts], evaluator.batch_size)
    heaviest = heaviest_to_generate(batches) if batches else ()
    shrinks = evaluator.device.type == "cpu" and _keeps_keys_by_row(model, inner)
    with (
        evaluator.judging(model),
        _last_together(inner),
        decoding(inner, tokenizer, stops, evaluator.max_new_tokens) as config,
    ):
        for place, indices in enumerate(batches):
            evaluator.between()
            evaluator.exact(place in heaviest)
            ids, mask = padded([prompts[i] for i in indices], evaluator.pad_token, left=not encoder_decoder)
            ids, mask = ids.to(evaluator.device), mask.to(evaluator.device)
            if shrinks:
                rows = _shrinking(model, ids, mask, config, evaluator.between, _cache_name(inner))
            else:
                generate: Any = model.generate
                between = StoppingCriteriaList([_Between(evaluator.between)])
                outputs = generate(
                    input_ids=ids, attention_mask=mask, generation_config=config, stopping_criteria=between
                )
                # A decoder returns the prompt too; that of an encoder-decoder starts with its own start token.
                rows = outputs[:, 1 if encoder_decoder else ids.shape[1] :].tolist()
            for i, tokens in zip(indices, rows, strict=True):
                end = next((place for place, token in enumerate(tokens) if token in stops), len(tokens))
                written = tokenizer.decode(tokens[:end], skip_special_tokens=True, clean_up_tokenization_spaces=False)
                texts[i] = str(written)
            count += len(indices)
            if monotonic() - logged_at > _LOG_SECONDS:
                evaluator.log(f"Written {count} of {len(prompts)} texts.")
                logged_at = monotonic()
    return texts


def _shrinking(
    model: Any,
    ids: torch.Tensor,
    mask: torch.Tensor,
    config: GenerationConfig,
    between: Callable[[], None],
    cache_name: str | None,
) -> list[list[int]]:
    """New tokens after each row of prompts [B, P], which are padded on the left. Rows that have ended are left out of
    the following tokens, so the lists differ in length."""
    rows: list[list[int]] = [[] for _ in ids]
    places, left = torch.arange(len(ids)), config.max_new_tokens or 0
    past: dict[str, Any] = {}
    while len(places) and left:
        limit = ids.shape[1]
        ended = _Ended(between, config.eos_token_id, len(ids))
        shorter = deepcopy(config)
        shorter.max_new_tokens = left
        outputs = model.generate(
            input_ids=ids,
            attention_mask=mask,
            generation_config=shorter,
            stopping_criteria=StoppingCriteriaList([ended]),
            return_dict_in_generate=True,
            **past,
        )
        new = outputs.sequences[:, limit:]
        for place, tokens in zip(places.tolist(), new.tolist(), strict=True):
            rows[place] += tokens
        left -= new.shape[1]
        going = (~ended.rows).nonzero().squeeze(1)
        places, ids = places[going], outputs.sequences[going]
        mask = torch.cat([mask, torch.ones_like(new)], dim=1)[going]
        cache = getattr(outputs, cache_name) if cache_name else None
        past = {}  # without keys and values transformers computes them again from `ids`
        if cache_name and isinstance(cache, DynamicCache) and cache.get_seq_length() and len(going):
            cache.batch_select_indices(going)
            past[cache_name] = cache
    return rows


def _cache_name(inner: nn.Module) -> str | None:
    """What the model calls the cache of keys and values: `cache` from transformers 5.24 on, `past_key_values` before.
    None if it takes none, as openai-gpt."""
    arguments = signature(inner.forward).parameters
    return next((name for name in ("cache", "past_key_values") if name in arguments), None)


def _keeps_keys_by_row(model: nn.Module, inner: Any) -> bool:
    """Whether generation can continue with the keys and values of some rows: only in a decoder whose layers all keep
    those of every token. Virtual tokens are not in `input_ids`, from which transformers would count."""
    text = inner.config.get_text_config()
    plain = set(getattr(text, "layer_types", None) or ["full_attention"]) == {"full_attention"}
    virtual = isinstance(model, PeftModel) and model.active_peft_config.is_prompt_learning
    return (
        plain
        and not virtual
        and _cache_name(inner) is not None
        and not inner.config.is_encoder_decoder
        and getattr(text, "sliding_window", None) is None
        and not getattr(inner, "_is_stateful", False)
        and inner._supports_default_dynamic_cache()
    )


def stop_tokens(config: GenerationConfig | None, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The end-of-text tokens: the tokenizer's, and those of the model's generation config."""
    own = config.eos_token_id if config is not None else None
    several = own if isinstance(own, list) else [own]
    return {token for token in (*several, tokenizer.eos_token_id) if token is not None}


@contextmanager
def decoding(
    model: Any, tokenizer: PreTrainedTokenizerBase, stops: set[int], limit: int, **sampling: Any
) -> Iterator[GenerationConfig]:
    """Temporarily replace the model's own generation config, which transformers uses to fill in unset fields. Greedy
    without `sampling`, which has fields of the config."""
    own = model.generation_config
    tokens = {
        name: getattr(own, name, None) for name in ("bos_token_id", "decoder_start_token_id", "forced_bos_token_id")
    }
    if model.config.is_encoder_decoder and tokens["decoder_start_token_id"] is None:
        tokens["decoder_start_token_id"] = model.config.decoder_start_token_id
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        num_beams=1,
        max_new_tokens=limit,
        eos_token_id=sorted(stops) or None,
        pad_token_id=tokenizer.pad_token_id,
        **tokens,
        **{"do_sample": False, **sampling},
    )
    try:
        yield model.generation_config
    finally:
        model.generation_config = own


@contextmanager
def _last_together(model: Any) -> Iterator[None]:
    """Make the last positions' vectors [B, 1, H] contiguous before the projection onto the vocabulary: for a slice of
    [B, T, H], torch would copy the projection's weight B times."""
    projection = model.get_output_embeddings()
    handle = projection.register_forward_pre_hook(lambda _, args: (args[0].contiguous(), *args[1:]))
    try:
        yield
    finally:
        handle.remove()


class _Between(StoppingCriteria):
    """A stopping criterion that never stops by itself; it checks for a stop request after each token."""

    def __init__(self, between: Callable[[], None]) -> None:
        self._between = between

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        self._between()
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


class _Ended(_Between):
    """It stops the whole batch once enough of its rows have ended, and tells which of them have."""

    def __init__(self, between: Callable[[], None], stops: Sequence[int] | None, rows: int) -> None:
        super().__init__(between)
        self._stops = torch.tensor(stops or [], dtype=torch.int64)
        self.rows = torch.zeros(rows, dtype=torch.bool)
        """[B]: the rows that have ended."""

    def __call__(self, input_ids: torch.Tensor, scores: Any, **options: Any) -> torch.Tensor:
        goes_on = super().__call__(input_ids, scores, **options)
        self.rows |= torch.isin(input_ids[:, -1], self._stops)
        return goes_on | (self.rows.float().mean() >= _ENDED_SHARE)
