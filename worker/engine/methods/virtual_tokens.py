"""Generation with virtual tokens (prompt tuning, prefix tuning).

PEFT's own `generate` looks up the key-value cache under a name that transformers has removed, finds none, and prepends
the prompt before every new token again (PEFT 0.21 with transformers 5.24). Here transformers generates by itself, from
what the forward pass would have received: embeddings instead of ids for a prompt, a filled cache for a prefix. The
cache covers the first tokens of a text, so a prefix of n stands for n tokens that are never read.
"""

from typing import Any

import torch
from peft import PeftType


def generate(
    model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **options: Any
) -> torch.Tensor:
    """Like the base model's `generate`, without beams: `input_ids` [B, L] padded on the left for a decoder, on any side
    for an encoder. Returns [B, L + new] for a decoder, [B, 1 + new] for an encoder-decoder."""
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
        generated: torch.Tensor = base.generate(input_ids=ids, attention_mask=longer, **options)
    else:
        start = input_ids.new_full((rows, n + 1), base.config.decoder_start_token_id)
        # Without a mask of the same length, transformers reads the first n again.
        options["decoder_attention_mask"] = torch.ones_like(start)
        generated = base.generate(input_ids=input_ids, attention_mask=mask, decoder_input_ids=start, **options)
    return generated[:, n:]
