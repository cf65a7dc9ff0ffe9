"""The tasks, one file each. To add one: a row in `app.domain.tasks`, a file here, and a line in the table."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from app.domain.data.dataset import Row, Split
from app.domain.messages import Message
from app.domain.runs.job import TrainJob
from app.domain.tasks import Task
from worker.engine.data.batches.batches import Batch, Examples, Listener
from worker.engine.evaluation.evaluate import Evaluator, Predictions
from worker.engine.tasks import (
    causal_lm,
    image_classification,
    preference,
    sentence_embeddings,
    seq2seq_lm,
    sequence_classification,
    token_classification,
)


class TaskFile(Protocol):
    """The interface of a module in this package."""

    AUTO: Any
    """The transformers class that loads a model for the task: `AutoModelForSequenceClassification`."""
    ARCHITECTURES: Any
    """transformers' mapping from configuration to model class; an architecture outside it does not support the task."""
    PEFT_TYPE: Any
    """PEFT's name for the task: `SEQ_CLS`; None if it has none."""

    def incompatibility(self, config: PreTrainedConfig) -> Message | None:
        """Why a model that transformers has for the task is unsuitable, and what to do: a sentence. None if it is
        suitable."""

    def encode(
        self,
        rows: Sequence[Row],
        split: Split,
        processor: Any,
        model: PreTrainedModel,
        job: TrainJob,
        sink: Listener,
        /,
    ) -> Examples:
        """Tokens, or pixels, and targets of every row of a split; `processor`: the tokenizer, or the image processor
        of a task that reads images. Can be stopped, and logs truncations. Raises `RunFailed` with the
        row's name and a remedy for a row that cannot be used."""

    def collate(self, examples: Any, indices: Sequence[int], pad_token: int) -> Batch:
        """Collate some of the rows that `encode` returned into one padded batch."""

    def losses(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """The loss of each of the batch's units (items, words, or completion tokens), row by row: float32 [units]."""

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """The sum of the losses over the batch's units (items, words, or completion tokens), a float32 scalar."""

    def evaluate(self, model: nn.Module, examples: Any, evaluator: Evaluator, *, generate: bool) -> Predictions:
        """Evaluate a model on a split, without dropout; `generate`: also on the text that it generates."""


TASKS: dict[Task, TaskFile] = {
    "sequence-classification": sequence_classification,
    "token-classification": token_classification,
    "causal-lm": causal_lm,
    "seq2seq-lm": seq2seq_lm,
    "sentence-embeddings": sentence_embeddings,
    "preference": preference,
    "image-classification": image_classification,
}
"""By the same keys as `app.domain.tasks.TASKS`."""
