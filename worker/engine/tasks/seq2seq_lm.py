"""Sequence to sequence: an encoder reads the prompt, a decoder learns to generate the completion (T5, BART).

    encoder input    x_1 … x_p  EOS            tokens, with the tokenizer's special tokens
    decoder input    START  y_1 … y_c          by the model's own rule, from the targets
    target           y_1 … y_c  EOS            targets, with the special tokens of the tokenizer for targets
    loss             −log p(target), summed over all of them

Both are truncated at their end to `max_length`. A truncated prompt keeps its start, where such models expect the
instruction ("summarize: …"), and its special tokens; a truncated completion loses its EOS, because the text does not
end there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from peft import PeftModel
from torch import nn
from transformers import AutoModelForSeq2SeqLM, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING

from app.domain.data.dataset import PairRow, Row, Split
from app.domain.failures import FailureCode, RunFailed
from app.domain.messages import Message, _
from app.domain.runs.job import TrainJob
from worker.engine.data.batches.batches import IGNORED, Batch, Listener, in_chunks, learnt, padded
from worker.engine.data.rows import special_tokens, unusable
from worker.engine.evaluation.evaluate import Evaluator, Predictions
from worker.engine.tasks.completions import Completions, check_vocabulary, judge, longest_prompt
from worker.engine.tasks.token_loss import logits_at, token_losses

AUTO = AutoModelForSeq2SeqLM
ARCHITECTURES = MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING
PEFT_TYPE = "SEQ_2_SEQ_LM"


def incompatibility(config: PreTrainedConfig) -> Message | None:
    """Rejects speech models."""
    model = ARCHITECTURES[type(config)]
    if not config.is_encoder_decoder or "audio" in getattr(model, "input_modalities", ()):
        return _(
            "A model of type %(type)r does not map text to text. Choose a model such as T5 or BART.",
            type=config.model_type,
        )
    return None


@dataclass(frozen=True)
class TwoTexts(Completions):
    """A split of prompts, which the encoder reads, and completions, which the decoder writes."""

    @property
    def sides(self) -> tuple[Sequence[int], ...]:
        """Prompts and completions are padded apart, so a long prompt and a long completion of two rows both count."""
        return [len(ids) for ids in self.tokens], [len(ids) for ids in self.targets]


def encode(
    rows: Sequence[Row],
    split: Split,
    tokenizer: PreTrainedTokenizerBase,
    model: PreTrainedModel,
    job: TrainJob,
    sink: Listener,
) -> TwoTexts:
    """Tokens of prompts and completions, both truncated to `max_length`."""
    training = job.spec.training
    if training.packing:
        raise RunFailed(
            FailureCode.BAD_CONFIGURATION,
            _("packing: only rows of causal-lm can be packed, not of seq2seq-lm. Leave packing out."),
        )
    _check_start(model)
    pairs = [_checked(row) for row in rows]
    _start, ending = special_tokens(*(token_ids(tokenizer, "text", ["a"], special)[0] for special in (False, True)))
    prompts: list[list[int]] = []
    completions: list[list[int]] = []
    for chunk in in_chunks(pairs, sink.raise_if_stopped):
        prompts += token_ids(tokenizer, "text", [row.prompt or "" for row in chunk])
        completions += token_ids(tokenizer, "text_target", [row.completion for row in chunk])
    limit = training.max_length
    long = [sum(len(side) > limit for side in sides) for sides in (prompts, completions)]
    if any(long):
        sink.log(
            f"{split} split, {len(rows)} rows: {long[0]} prompts and {long[1]} completions are longer than max_length "
            f"{limit} and were truncated at their end."
        )
    tokens = [np.asarray(cut(ids, ending, limit), dtype=np.int32) for ids in prompts]
    targets = [np.asarray(ids[:limit], dtype=np.int64) for ids in completions]
    for row, prompt in zip(rows, tokens, strict=True):
        if not len(prompt):
            raise unusable(row, _("has a prompt without a token"), _("Write a prompt"))
    check_vocabulary(rows, tokens, model)
    check_vocabulary(rows, targets, model)
    longest_prompt(job, model, tokenizer)
    return TwoTexts(
        rows=rows,
        targets=targets,
        lengths=[len(prompt) + len(target) for prompt, target in zip(tokens, targets, strict=True)],
        tokens=tokens,
        tokenizer=tokenizer,
        prompts=tokens,
        references=[row.completion for row in pairs],
        truncated=[
            len(prompt) + len(completion)
            for prompt, completion in zip(prompts, completions, strict=True)
            if max(len(prompt), len(completion)) > limit
        ],
    )


def _checked(row: Row) -> PairRow:
    if not isinstance(row, PairRow):
        raise unusable(row, _("has no prompt and completion"), _("Choose a dataset of prompts and completions"))
    if not row.completion or not row.completion.strip():
        raise unusable(row, _("has an empty completion"), _("Leave it out"))
    return row


def token_ids(
    tokenizer: PreTrainedTokenizerBase, side: Literal["text", "text_target"], texts: list[str], special: bool = True
) -> list[list[int]]:
    call: Any = tokenizer
    ids: list[list[int]] = call(
        **{side: texts},
        add_special_tokens=special,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )["input_ids"]
    return ids


def cut(ids: list[int], ending: list[int], limit: int) -> list[int]:
    """The start of a sequence, with the special tokens at its end."""
    return ids if len(ids) <= limit else [*ids[: max(0, limit - len(ending))], *ending]


def _check_start(model: PreTrainedModel) -> None:
    try:
        _decoder_reads(model, torch.tensor([[1, 2]]))
    except (ValueError, TypeError, RuntimeError) as error:
        text = _(
            "The base model's config.json does not name the token with which its decoder starts. Set "
            "decoder_start_token_id and pad_token_id in it."
        )
        raise RunFailed(FailureCode.BAD_CONFIGURATION, text) from error


def _decoder_reads(model: nn.Module, targets: torch.Tensor) -> torch.Tensor:
    """The targets [B, T] shifted right behind a start token, by the model's own rule if it has one."""
    inner: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    if rule := getattr(inner, "prepare_decoder_input_ids_from_labels", None):
        shifted: torch.Tensor = rule(targets)
        return shifted
    start, pad = inner.config.decoder_start_token_id, inner.config.pad_token_id
    moved = torch.cat([torch.full_like(targets[:, :1], start), targets[:, :-1]], dim=1)
    return moved.masked_fill(moved == IGNORED, pad)


def collate(examples: Completions, indices: Sequence[int], pad_token: int) -> Batch:
    """Prompts padded on the right for the encoder; labels [B, T] are the targets, IGNORED where padded."""
    most, most_of_targets = examples.longest
    ids, mask = padded([examples.tokens[i] for i in indices], pad_token, most=most)
    labels, real = padded([examples.targets[i] for i in indices], IGNORED, most=most_of_targets)
    return Batch({"input_ids": ids, "attention_mask": mask}, labels, int(mask.sum() + real.sum()), learnt(labels))


def losses(model: nn.Module, batch: Batch) -> torch.Tensor:
    return token_losses(_logits(model, batch), batch.targets)


def loss(model: nn.Module, batch: Batch) -> torch.Tensor:
    return losses(model, batch).sum()


def evaluate(model: nn.Module, examples: Completions, evaluator: Evaluator, *, generate: bool) -> Predictions:
    """Evaluate on the reference completions and, with `generate`, on the text generated for the prompts."""
    return judge(model, examples, evaluator, _logits, generate=generate)


def _logits(model: nn.Module, batch: Batch) -> torch.Tensor:
    inputs = {**batch.inputs, "decoder_input_ids": _decoder_reads(model, batch.labels)}
    assert batch.places is not None  # noqa: S101 collate gives them
    return logits_at(model, inputs, batch.places, batch.labels.shape[1])
