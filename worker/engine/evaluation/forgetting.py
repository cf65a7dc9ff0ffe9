"""Forgetting: what a model loses on general text while it learns something else.

    forgetting = loss(adapted) − loss(untouched)        nats per token, on the same tokens

A decoder is judged by all tokens of the texts. An encoder-decoder has no loss on a plain text, so each is cut in two:
the first half is the prompt, the second the completion. That is none of the tasks that T5 was pre-trained on, but both
models are asked the same.

The texts are the first of the dataset's test split, so few that they cost little beside the task's own test split.
"""

from collections.abc import Iterator, Sequence

from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from app.domain.data.dataset import PairRow, Row, TextRow
from app.domain.failures import FailureCode, RunFailed
from app.domain.runs.job import TrainJob
from app.domain.runs.result import Forgetting
from worker.engine.data.batches import Examples, Listener, read
from worker.engine.evaluation.evaluate import Evaluator
from worker.engine.tasks import TASKS

MOST_TEXTS = 200
MOST_TOKENS = 65536


class GeneralText:
    """Texts that nothing was learnt from, and the untouched model's loss on them."""

    def __init__(
        self, job: TrainJob, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, sink: Listener
    ) -> None:
        """Raises `RunFailed` if the job's general file has no text to judge by."""
        self._name = job.spec.general_text or ""
        self._task = TASKS[job.spec.task]
        most = min(MOST_TEXTS, max(1, MOST_TOKENS // job.spec.training.max_length))
        texts = read(job.general_file or "", "text", needed=("test",))["test"]
        rows: list[Row] = [row for row in texts if isinstance(row, TextRow) and row.text and row.text.strip()]
        if model.config.is_encoder_decoder:
            rows = list(halves(rows, job.spec.training.max_length))
        if not rows:
            raise RunFailed(
                FailureCode.BAD_CONFIGURATION,
                "general_text: its test split has no text to measure forgetting on. Register one that has.",
            )
        self.examples: Examples = self._task.encode(rows[:most], "test", tokenizer, model, job, _Named(sink))

    def loss(self, model: nn.Module, evaluator: Evaluator) -> float:
        """A model's, in nats per token."""
        return self._task.evaluate(model, self.examples, evaluator, generate=False).loss

    def forgetting(self, base_loss: float, adapted_loss: float) -> Forgetting:
        """As it is reported."""
        tokens = self.examples.units(range(len(self.examples)))
        return Forgetting(dataset=self._name, tokens=tokens, base_loss=base_loss, adapted_loss=adapted_loss)


def halves(rows: Sequence[Row], max_length: int) -> Iterator[PairRow]:
    """Each text cut at the first white space behind its middle, or in its middle if it has none there. The first part
    has no more than about `max_length` characters, so that the second goes on where a model stops reading."""
    for row in rows:
        if isinstance(row, TextRow):
            text = row.text.strip()
            middle = min(len(text) // 2, max_length)
            cut = next((i for i in range(middle, min(len(text), 2 * middle)) if text[i].isspace()), middle)
            if text[:cut].strip() and text[cut:].strip():
                yield PairRow(row.item, row.split, text[:cut], text[cut:].strip())


class _Named:
    """Says in the log which rows are meant."""

    def __init__(self, sink: Listener) -> None:
        self._sink = sink

    def log(self, message: str) -> None:
        """A line for the run's log."""
        self._sink.log(f"General text: {message}")

    def raise_if_stopped(self) -> None:
        """As the run's own."""
        self._sink.raise_if_stopped()
