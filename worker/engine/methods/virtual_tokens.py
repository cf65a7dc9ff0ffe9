"""Generation with virtual tokens in front.

PEFT's own `generate` looks for the cache of keys and values under a name that transformers has given up, finds none,
and puts the prompt before every new token again (PEFT 0.21 with transformers 5.24). Here transformers generates by
itself, from what the forward pass would have seen: vectors in place of ids for a prompt, a cache that is already filled
for a prefix. A cache covers the first tokens of its text, so a prefix of n stands for n tokens that are never read.
"""

from typing import Any

import torch
from peft import PeftType


def generate(
    model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **options: Any
) -> torch.Tensor:
    """As `generate` of the base model, without beams: `input_ids` [B, L] padded on the left for a decoder, on any side
    for an encoder. Returns [B, L + new] of a decoder, [B, 1 + new] of an encoder-decoder."""
    base, config = model.base_model, model.active_peft_config
    rows, n = len(input_ids), config.num_virtual_tokens
    mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
    longer = torch.cat([mask.new_ones(rows, n), mask], dim=1)
    prompt = model.get_prompt(rows)
    decoder_only = not base.config.is_encoder_decoder
    if config.peft_type != PeftType.PREFIX_TUNING:
        words = model.word_embeddings(input_ids)
        vectors = torch.cat([prompt.to(words.dtype), words], dim=1)
        new: torch.Tensor = base.generate(inputs_embeds=vectors, attention_mask=longer, **options)
        return torch.cat([input_ids, new], dim=1) if decoder_only else new
    options["past_key_values"] = prompt
    if decoder_only:
        ids = torch.cat([input_ids.new_zeros(rows, n), input_ids], dim=1)
        found: torch.Tensor = base.generate(input_ids=ids, attention_mask=longer, **options)
    else:
        start = input_ids.new_full((rows, n + 1), base.config.decoder_start_token_id)
        # Without a mask of the same length, transformers reads the first n again.
        options["decoder_attention_mask"] = torch.ones_like(start)
        found = base.generate(input_ids=input_ids, attention_mask=mask, decoder_input_ids=start, **options)
    return found[:, n:]
