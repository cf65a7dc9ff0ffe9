"""Forgetting: how much the loss on general text rises through fine-tuning.

    forgetting = loss(adapted) − loss(base model)        nats per token, on the same tokens

A decoder is evaluated on all tokens of the texts. An encoder-decoder has no loss on plain text, so each text is split
in half: the first half is the prompt, the second the completion. T5 was not pre-trained on that task, but both models
are evaluated on the same one.

The texts are the first of the general dataset's test split, few enough to cost little beside the task's own test split.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from app.domain.data.dataset import PairRow, Row, TextRow
from app.domain.failures import FailureCode, RunFailed
from app.domain.messages import _
from app.domain.runs.job import TrainJob
from app.domain.runs.result import Forgetting
from app.domain.tasks import TASKS as FACTS
from worker.engine.data.batches.batches import Examples, Listener, read
from worker.engine.evaluation.base_evaluations import BaseEvaluations
from worker.engine.evaluation.evaluate import Evaluator
from worker.engine.tasks import TASKS

MOST_TEXTS = 200
MOST_TOKENS = 65536


class GeneralText:
    """General texts outside the training data, and the base model's loss on them."""

    def __init__(
        self, job: TrainJob, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, sink: Listener
    ) -> None:
        """Raises `RunFailed` if the job's general file has no test text."""
        self._name = job.spec.general_text or ""
        self.task = FACTS[job.spec.task].forgets_as or job.spec.task
        self._task = TASKS[self.task]
        limit = min(MOST_TEXTS, max(1, MOST_TOKENS // job.spec.training.max_length))
        texts = read(job.general_file or "", "text", needed=("test",))["test"]
        rows: list[Row] = [row for row in texts if isinstance(row, TextRow) and row.text and row.text.strip()]
        if model.config.is_encoder_decoder:
            rows = list(halves(rows, job.spec.training.max_length))
        if not rows:
            raise RunFailed(
                FailureCode.BAD_CONFIGURATION,
                _("general_text: its test split has no text to measure forgetting on. Choose another dataset."),
            )
        self.examples: Examples = self._task.encode(rows[:limit], "test", tokenizer, model, job, _Named(sink))

    def before(self, evaluations: BaseEvaluations) -> float:
        """The base model's loss."""
        return evaluations.evaluate(self.examples, generate=False, task=self.task).loss

    def loss(self, model: nn.Module, evaluator: Evaluator) -> float:
        """A model's loss, in nats per token."""
        evaluator = replace(evaluator, collate=self._task.collate)
        return self._task.evaluate(model, self.examples, evaluator, generate=False).loss

    def forgetting(self, base_loss: float, adapted_loss: float) -> Forgetting:
        tokens = self.examples.units(range(len(self.examples)))
        return Forgetting(dataset=self._name, tokens=tokens, base_loss=base_loss, adapted_loss=adapted_loss)


def halves(rows: Sequence[Row], max_length: int) -> Iterator[PairRow]:
    """Split each text at the first white space after its middle, or at its middle if there is none. The first part is
    limited to about `max_length` characters, so that the second starts where the model stops reading."""
    for row in rows:
        if isinstance(row, TextRow):
            text = row.text.strip()
            middle = min(len(text) // 2, max_length)
            cut = next((i for i in range(middle, min(len(text), 2 * middle)) if text[i].isspace()), middle)
            if text[:cut].strip() and text[cut:].strip():
                yield PairRow(row.item, row.split, text[:cut], text[cut:].strip())


class _Named:
    """Prefixes log lines, so that they are not mistaken for lines about the task's rows."""

    def __init__(self, sink: Listener) -> None:
        self._sink = sink

    def log(self, message: str) -> None:
        self._sink.log(f"General text: {message}")

    def raise_if_stopped(self) -> None:
        self._sink.raise_if_stopped()
