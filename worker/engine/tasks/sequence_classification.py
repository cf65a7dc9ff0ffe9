"""Classification of texts: a new head over the labels, on top of the base model.

logits [B, labels] = head(base(x))        loss = cross-entropy, summed over the rows
"""

from collections.abc import Sequence

import numpy as np
import torch
from sklearn.metrics import f1_score
from torch import nn
from torch.nn import functional
from transformers import AutoModelForSequenceClassification, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

from app.domain.datasets import LabelledRow, Row, Split
from app.domain.errors import RunFailed
from app.domain.jobs import TrainJob
from app.domain.runs import FailureCode
from worker.engine.data import Batch, Listener, Texts, in_chunks, padded
from worker.engine.evaluate import Evaluator, Predictions

AUTO = AutoModelForSequenceClassification
ARCHITECTURES = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING
PEFT_TYPE = "SEQ_CLS"


def unfit(config: PreTrainedConfig) -> None:
    """Nothing more is asked than a class of transformers."""


def encode(
    rows: Sequence[Row],
    split: Split,
    tokenizer: PreTrainedTokenizerBase,
    model: PreTrainedModel,
    job: TrainJob,
    sink: Listener,
) -> Texts:
    """Tokens of every text, cut to `max_length` with the special tokens included; targets are [1], the label."""
    tokens, targets = [], []
    for chunk in in_chunks(rows, sink.raise_if_stopped):
        labelled = [_checked(row, len(job.labels)) for row in chunk]
        encoded = tokenizer(
            [row.text for row in labelled],
            truncation=True,
            max_length=job.spec.training.max_length,
            return_attention_mask=False,
            return_token_type_ids=False,
        )
        tokens += [np.asarray(ids, dtype=np.int32) for ids in encoded["input_ids"]]
        targets += [np.asarray([row.label], dtype=np.int64) for row in labelled]
    return Texts(rows, targets, [len(t) for t in tokens], tokens)


def _checked(row: Row, labels: int) -> LabelledRow:
    if not isinstance(row, LabelledRow) or row.text is None or row.label is None or not 0 <= row.label < labels:
        raise RunFailed(
            FailureCode.BAD_CONFIGURATION,
            f"Row {row.item} of the dataset has label {getattr(row, 'label', None)} in split {row.split!r}: "
            f"labels go from 0 to {labels - 1}.",
        )
    return row


def collate(examples: Texts, indices: Sequence[int], pad_token: int) -> Batch:
    """Rows padded on the right to the longest of them; labels are [B]."""
    ids, mask = padded([examples.tokens[i] for i in indices], pad_token)
    labels = torch.from_numpy(np.concatenate([examples.targets[i] for i in indices]))
    return Batch({"input_ids": ids, "attention_mask": mask}, labels, int(mask.sum()))


def loss(model: nn.Module, batch: Batch) -> torch.Tensor:
    """Cross-entropy, summed over the rows."""
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
    )
