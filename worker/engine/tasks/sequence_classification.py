"""Sequence classification: a new head over the labels, on top of the base model.

logits [B, labels] = head(base(x))        loss = cross-entropy, summed over the rows
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sklearn.metrics import f1_score
from torch import nn
from torch.nn import functional
from transformers import AutoModelForSequenceClassification, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

from app.domain.data.dataset import LabelledRow, Row, Split
from app.domain.failures import FailureCode, RunFailed
from app.domain.messages import _
from app.domain.runs.confusion import Confusion
from app.domain.runs.job import TrainJob
from worker.engine.data.batches.batches import Batch, Listener, Texts, in_chunks, most_tokens, padded
from worker.engine.evaluation.evaluate import Evaluator, Predictions

AUTO = AutoModelForSequenceClassification
ARCHITECTURES = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING
PEFT_TYPE = "SEQ_CLS"


def incompatibility(config: PreTrainedConfig) -> None:
    """Every model of the transformers class is suitable."""


def encode(
    rows: Sequence[Row],
    split: Split,
    tokenizer: PreTrainedTokenizerBase,
    model: PreTrainedModel,
    job: TrainJob,
    sink: Listener,
) -> Texts:
    """Tokens of every text, truncated to `max_length` including special tokens; targets are [1], the label."""
    limit, long = job.spec.training.max_length, []
    tokens, targets = [], []
    for chunk in in_chunks(rows, sink.raise_if_stopped):
        labelled = [_checked(row, len(job.labels)) for row in chunk]
        texts = [row.text or "" for row in labelled]
        encoded = token_ids(tokenizer, texts, truncation=True, max_length=limit)
        # Only texts that fill max_length can have been truncated; they are tokenized again to check.
        full = [text for text, ids in zip(texts, encoded, strict=True) if len(ids) >= limit]
        long += [n for n in map(len, token_ids(tokenizer, full)) if n > limit] if full else []
        tokens += [np.asarray(ids, dtype=np.int32) for ids in encoded]
        targets += [np.asarray([row.label], dtype=np.int64) for row in labelled]
    if long:
        sink.log(truncation(split, len(rows), long, job, most_tokens(model.config, tokenizer)))
    return Texts(rows, targets, [len(t) for t in tokens], tokens, truncated=long)


def token_ids(tokenizer: PreTrainedTokenizerBase, texts: list[str], **options: Any) -> list[list[int]]:
    ids: list[list[int]] = tokenizer(
        texts, return_attention_mask=False, return_token_type_ids=False, verbose=False, **options
    )["input_ids"]
    return ids


def truncation(split: Split, rows: int, long: list[int], job: TrainJob, model_limit: int | None) -> str:
    """A log line on truncation. `long`: token counts of the truncated rows; `model_limit`: the model's maximum."""
    limit, longest = job.spec.training.max_length, max(long)
    possible = min(longest, model_limit - job.spec.method.virtual_tokens) if model_limit else longest
    remedy = f"Raise max_length to {possible}" + ("" if possible == longest else ", the most that the model reads")
    return (
        f"{len(long)} of {rows} rows of the {split} split are longer than max_length {limit} and were truncated; the "
        f"longest has {longest} tokens. " + (f"{remedy}." if possible > limit else "The model reads no more.")
    )


def _checked(row: Row, labels: int) -> LabelledRow:
    if not isinstance(row, LabelledRow) or row.text is None or row.label is None or not 0 <= row.label < labels:
        text = _(
            "Row %(item)s of the %(split)s split has label %(label)s, and labels go from 0 to %(last)s. Correct the "
            "dataset.",
            item=row.item,
            split=row.split,
            label=getattr(row, "label", None),
            last=labels - 1,
        )
        raise RunFailed(FailureCode.BAD_CONFIGURATION, text)
    return row


def collate(examples: Texts, indices: Sequence[int], pad_token: int) -> Batch:
    """Rows padded on the right to the longest one; labels are [B]."""
    ids, mask = padded([examples.tokens[i] for i in indices], pad_token, most=examples.longest[0])
    labels = torch.from_numpy(np.concatenate([examples.targets[i] for i in indices]))
    return Batch({"input_ids": ids, "attention_mask": mask}, labels, int(mask.sum()))


def losses(model: nn.Module, batch: Batch) -> torch.Tensor:
    return functional.cross_entropy(model(**batch.inputs).logits.float(), batch.labels, reduction="none")


def loss(model: nn.Module, batch: Batch) -> torch.Tensor:
    return functional.cross_entropy(model(**batch.inputs).logits.float(), batch.labels, reduction="sum")


def evaluate(model: nn.Module, examples: Texts, evaluator: Evaluator, *, generate: bool) -> Predictions:
    """Accuracy, macro-F1 and each label's probability."""
    logits: list[torch.Tensor] = []
    rows: list[int] = []
    with evaluator.judging(model):
        for indices, batch in evaluator.batches(examples):
            logits.append(model(**batch.inputs).logits.float().cpu())
            rows += indices
    scattered = torch.empty_like(joined := torch.cat(logits))
    scattered[torch.tensor(rows)] = joined
    labels = torch.from_numpy(np.concatenate(examples.targets))
    probabilities, predicted = scattered.softmax(dim=1), scattered.argmax(dim=1)
    right = np.equal(predicted.numpy(), labels.numpy()).astype(np.float64)
    every = range(scattered.shape[1])
    f1 = f1_score(labels.numpy(), predicted.numpy(), labels=every, average="macro", zero_division=0)
    return Predictions(
        loss=evaluator.finite(functional.cross_entropy(scattered, labels).item()),
        metrics={"accuracy": float(right.mean()), "macro_f1": float(f1)},
        per_item={"accuracy": right},
        columns={"prediction": predicted.tolist(), "scores": probabilities.tolist()},
        confusion=Confusion.of(labels.tolist(), predicted.tolist()),
    )
