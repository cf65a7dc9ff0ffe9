"""Greedy decoding after a prompt, and text metrics that compare the output with the reference.

The most probable token is chosen each time, until an end-of-text token or `max_new_tokens`. Of the model's own
generation defaults only the start and end tokens are kept; sampling, beams, penalties and lengths are not, so that arms
differ by their weights alone.
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

_LOG_SECONDS = 60.0
"""Seconds between two progress lines in the log."""


def write(
    model: nn.Module,
    prompts: Sequence[NDArray[np.int32]],
    tokenizer: PreTrainedTokenizerBase,
    evaluator: Evaluator,
) -> list[str]:
    """Generate a text after each prompt, without special tokens. Can be stopped between two tokens."""
    inner: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    encoder_decoder, stops = bool(inner.config.is_encoder_decoder), stop_tokens(inner, tokenizer)
    texts, count, logged_at = [""] * len(prompts), 0, monotonic()
    with (
        evaluator.judging(model),
        _last_together(inner),
        _greedy(inner, tokenizer, stops, evaluator.max_new_tokens) as config,
    ):
        for indices in evaluation_order([len(prompt) for prompt in prompts], evaluator.batch_size):
            evaluator.between()
            ids, mask = padded([prompts[i] for i in indices], evaluator.pad_token, left=not encoder_decoder)
            generate: Any = model.generate
            outputs = generate(
                input_ids=ids.to(evaluator.device),
                attention_mask=mask.to(evaluator.device),
                generation_config=config,
                stopping_criteria=StoppingCriteriaList([_Between(evaluator.between)]),
            )
            # A decoder returns the prompt too; the decoder of an encoder-decoder starts with its own start token.
            for i, tokens in zip(indices, outputs[:, 1 if encoder_decoder else ids.shape[1] :].tolist(), strict=True):
                end = next((place for place, token in enumerate(tokens) if token in stops), len(tokens))
                written = tokenizer.decode(tokens[:end], skip_special_tokens=True, clean_up_tokenization_spaces=False)
                texts[i] = str(written)
            count += len(indices)
            if monotonic() - logged_at > _LOG_SECONDS:
                evaluator.log(f"Written {count} of {len(prompts)} texts.")
                logged_at = monotonic()
    return texts


def stop_tokens(model: Any, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The end-of-text tokens: the tokenizer's, and those of the model's generation_config.json."""
    own = model.generation_config.eos_token_id if model.generation_config is not None else None
    several = own if isinstance(own, list) else [own]
    return {token for token in (*several, tokenizer.eos_token_id) if token is not None}


@contextmanager
def _greedy(model: Any, tokenizer: PreTrainedTokenizerBase, stops: set[int], limit: int) -> Iterator[GenerationConfig]:
    """Temporarily replace the model's own generation config, which transformers uses to fill in unset fields."""
    own = model.generation_config
    tokens = {
        name: getattr(own, name, None) for name in ("bos_token_id", "decoder_start_token_id", "forced_bos_token_id")
    }
    if model.config.is_encoder_decoder and tokens["decoder_start_token_id"] is None:
        tokens["decoder_start_token_id"] = model.config.decoder_start_token_id
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=False,
        num_beams=1,
        max_new_tokens=limit,
        eos_token_id=sorted(stops) or None,
        pad_token_id=tokenizer.pad_token_id,
        **tokens,
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


def exact_match(written: str, reference: str) -> float:
    """1.0 if the texts are equal apart from leading and trailing white space."""
    return float(written.strip() == reference.strip())


def rouge_l(written: str, reference: str) -> float:
    """ROUGE-L: F1 of the longest common subsequence of words (Lin 2004, section 3, with β = 1), from 0 to 1.

        2·LCS / (m + n)        m and n: number of words of the two texts

    Words are runs of letters and digits of any script, case-insensitive, without stemming. Two texts without words
    score 1. Computed by rapidfuzz as the normalized Indel similarity, which is the same number.
    """
    return float(Indel.normalized_similarity(_words(written), _words(reference)))


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.casefold())
