"""What a model writes when it is given a prompt, and how near that comes to what was wanted.

Greedy: the most probable token each time, until one that ends a text or `max_new_tokens`. Of a model's own defaults for
generation only those are kept that say which token begins and ends a text; sampling, beams, penalties and lengths are
not, so that the arms of a comparison differ by their weights alone.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel
from rapidfuzz.distance import Indel
from torch import nn
from transformers import GenerationConfig, PreTrainedTokenizerBase, StoppingCriteria, StoppingCriteriaList

from worker.engine.data.batches import evaluation_order, padded
from worker.engine.evaluation.evaluate import Evaluator

_SAID_EVERY = 60.0
"""Seconds between two lines in the log."""


def write(
    model: nn.Module,
    prompts: Sequence[NDArray[np.int32]],
    tokenizer: PreTrainedTokenizerBase,
    evaluator: Evaluator,
) -> list[str]:
    """The text that a model writes after each prompt, without special tokens. Can be stopped between two tokens."""
    inner: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    encoder_decoder, stops = bool(inner.config.is_encoder_decoder), stop_tokens(inner, tokenizer)
    texts, done, said = [""] * len(prompts), 0, monotonic()
    with (
        evaluator.judging(model),
        _last_together(inner),
        _greedy(inner, tokenizer, stops, evaluator.max_new_tokens) as config,
    ):
        for indices in evaluation_order([len(prompt) for prompt in prompts], evaluator.batch_size):
            evaluator.between()
            ids, mask = padded([prompts[i] for i in indices], evaluator.pad_token, left=not encoder_decoder)
            generate: Any = model.generate
            found = generate(
                input_ids=ids.to(evaluator.device),
                attention_mask=mask.to(evaluator.device),
                generation_config=config,
                stopping_criteria=StoppingCriteriaList([_Between(evaluator.between)]),
            )
            # A decoder gives the prompt back; the decoder behind an encoder begins with a token of its own.
            for i, tokens in zip(indices, found[:, 1 if encoder_decoder else ids.shape[1] :].tolist(), strict=True):
                end = next((place for place, token in enumerate(tokens) if token in stops), len(tokens))
                written = tokenizer.decode(tokens[:end], skip_special_tokens=True, clean_up_tokenization_spaces=False)
                texts[i] = str(written)
            done += len(indices)
            if monotonic() - said > _SAID_EVERY:
                evaluator.log(f"Written {done} of {len(prompts)} texts.")
                said = monotonic()
    return texts


def stop_tokens(model: Any, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Tokens that end a text: the tokenizer's, and those of the model's generation_config.json."""
    own = model.generation_config.eos_token_id if model.generation_config is not None else None
    several = own if isinstance(own, list) else [own]
    return {token for token in (*several, tokenizer.eos_token_id) if token is not None}


@contextmanager
def _greedy(model: Any, tokenizer: PreTrainedTokenizerBase, stops: set[int], most: int) -> Iterator[GenerationConfig]:
    """The configuration, in place of the model's own meanwhile: transformers fills in from that what another leaves
    open."""
    own = model.generation_config
    kept = {
        name: getattr(own, name, None) for name in ("bos_token_id", "decoder_start_token_id", "forced_bos_token_id")
    }
    if model.config.is_encoder_decoder and kept["decoder_start_token_id"] is None:
        kept["decoder_start_token_id"] = model.config.decoder_start_token_id
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=False,
        num_beams=1,
        max_new_tokens=most,
        eos_token_id=sorted(stops) or None,
        pad_token_id=tokenizer.pad_token_id,
        **kept,
    )
    try:
        yield model.generation_config
    finally:
        model.generation_config = own


@contextmanager
def _last_together(model: Any) -> Iterator[None]:
    """The last positions' vectors [B, 1, H] side by side in memory before they are projected onto the vocabulary: as a
    part of [B, T, H] torch would copy the projection's weight B times."""
    projection = model.get_output_embeddings()
    handle = projection.register_forward_pre_hook(lambda _, args: (args[0].contiguous(), *args[1:]))
    try:
        yield
    finally:
        handle.remove()


class _Between(StoppingCriteria):
    """Stops nothing by itself; between two tokens it asks whether somebody else wants to."""

    def __init__(self, between: Callable[[], None]) -> None:
        self._between = between

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        self._between()
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


def exact_match(written: str, wanted: str) -> float:
    """1.0 if the texts are equal but for white space at their ends."""
    return float(written.strip() == wanted.strip())


def rouge_l(written: str, wanted: str) -> float:
    """F1 of the longest common subsequence of words (Lin 2004, ROUGE, section 3, with β = 1), from 0 to 1:

        2·LCS / (m + n)        m and n: words of the two texts

    Words are runs of letters and digits of any script, without regard to case; nothing is stemmed. Two texts without a
    word agree. By rapidfuzz, as the similarity of insertions and deletions, which is the same number.
    """
    return float(Indel.normalized_similarity(_words(written), _words(wanted)))


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.casefold())
