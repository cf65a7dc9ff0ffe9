"""Shared by the language-model tasks: rows with a completion, and their evaluation."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from app.domain.data.dataset import Row
from app.domain.failures import FailureCode, RunFailed
from app.domain.messages import _
from app.domain.runs.job import TrainJob
from app.domain.tasks import MetricName
from worker.engine.data.batches.batches import IGNORED, Batch, Texts, most_tokens
from worker.engine.evaluation.evaluate import Evaluator, Predictions
from worker.engine.evaluation.generation import write
from worker.engine.tasks.token_loss import token_losses
from worker.text_metrics import exact_match, rouge_l

_MOST_LOGITS = 2**26
"""Maximum elements of an evaluation's logits: evaluation must not need more memory than training."""
_BIGGEST_LOSS = 700.0
"""exp of this is still finite."""


@dataclass(frozen=True)
class Completions(Texts):
    """A split of rows for a language model. Targets are the token ids to predict at each position, IGNORED where there
    is none."""

    tokenizer: PreTrainedTokenizerBase
    prompts: Sequence[NDArray[np.int32]]
    """The prompt for generation, for each row; empty for rows without one."""
    references: Sequence[str]
    """The reference completions, untruncated."""
    cut: Sequence[bool] = ()
    """Whether a prompt was longer than what generation reads of it, for each row; empty where that is not known."""
    capacity: int = 0
    """Tokens of a sequence that several rows share; 0: each row has its own."""


def judge(
    model: nn.Module,
    examples: Completions,
    evaluator: Evaluator,
    logits: Callable[[nn.Module, Batch], torch.Tensor],
    *,
    generate: bool,
) -> Predictions:
    """Loss, perplexity and token accuracy over completion tokens (teacher forcing); with `generate`, and if the rows
    have prompts, exact match and ROUGE-L of the generated text.

    `logits` returns a batch's [N, V] at its N targets, in order.
    """
    longest = max(np.count_nonzero(row != IGNORED) for row in examples.targets)
    right, units, total = np.zeros(len(examples)), np.zeros(len(examples)), 0.0
    with evaluator.judging(model):
        for indices, batch in evaluator.batches(examples, most_rows(model, int(longest))):
            outputs, targets = logits(model, batch), batch.targets
            total += token_losses(outputs, targets).double().sum().item()
            hits = torch.zeros_like(batch.labels).index_put_(batch.places, (outputs.argmax(1) == targets).long())
            right[indices] = hits.sum(1).cpu().numpy()
            units[indices] = (batch.labels != IGNORED).sum(1).cpu().numpy()
            del outputs  # otherwise two batches' logits would be in memory at once
    loss = evaluator.finite(total / units.sum())
    per_item: dict[MetricName, NDArray[np.float64]] = {"token_accuracy": right / units}
    columns: dict[str, Sequence[Any]] = {}
    if generate and examples.prompts:
        texts = write(model, examples.prompts, examples.tokenizer, evaluator)
        pairs = list(zip(texts, examples.references, strict=True))
        per_item["exact_match"] = np.array([exact_match(*pair) for pair in pairs])
        per_item["rouge_l"] = np.array([rouge_l(*pair) for pair in pairs])
        columns = {"prediction": texts} | ({"cut": examples.cut} if examples.cut else {})
    metrics = {name: float(values.mean()) for name, values in per_item.items()}
    metrics["perplexity"] = math.exp(min(loss, _BIGGEST_LOSS))
    return Predictions(loss, metrics, per_item, columns)


def most_rows(model: Any, targets: int) -> int:
    """How many rows with this many targets each fit into an evaluation batch."""
    vocabulary = int(getattr(model.config.get_text_config(), "vocab_size", 1))
    return max(1, _MOST_LOGITS // (vocabulary * targets))


def longest_prompt(job: TrainJob, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """The maximum length of a prompt for generation, so that the completion has room. Raises
    `RunFailed(bad_configuration)` if there is none."""
    training, limit = job.spec.training, most_tokens(model.config, tokenizer)
    if limit is None:
        return training.max_length
    room = limit - job.spec.method.virtual_tokens - (0 if model.config.is_encoder_decoder else training.max_new_tokens)
    if room < 1 or training.max_new_tokens >= limit:
        text = _(
            "max_new_tokens is %(tokens)s, which leaves no room for a prompt: the base model reads at most %(limit)s "
            "tokens. Lower it.",
            tokens=training.max_new_tokens,
            limit=limit,
        )
        raise RunFailed(FailureCode.BAD_CONFIGURATION, text)
    return min(training.max_length, room)


def check_vocabulary(rows: Sequence[Row], sequences: Sequence[NDArray[Any]], model: Any) -> None:
    """Raise `RunFailed(bad_configuration)` if a row has a token id beyond the model's embeddings."""
    embeddings = model.get_input_embeddings().weight.shape[0]
    for row, tokens in zip(rows, sequences, strict=True):
        if (highest := int(tokens.max(initial=0))) >= embeddings:
            text = _(
                "Row %(item)s of the %(split)s split has token %(token)s, and the base model has %(count)s embeddings, "
                "so the tokenizer is not the model's own. Put the model's tokenizer beside it.",
                item=row.item,
                split=row.split,
                token=highest,
                count=embeddings,
            )
            raise RunFailed(FailureCode.BAD_CONFIGURATION, text)
