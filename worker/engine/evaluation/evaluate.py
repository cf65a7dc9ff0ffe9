"""The loop that every evaluation of an attempt shares; each task defines its metrics."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from app.domain.data.dataset import Split
from app.domain.failures import FailureCode, RunFailed
from app.domain.messages import _
from app.domain.runs.confusion import Confusion
from app.domain.runs.result import Evaluation
from app.domain.tasks import MetricName
from worker.engine.data.batches.batches import Batch, Examples
from worker.engine.data.batches.order import evaluation_order


@dataclass(frozen=True)
class Predictions:
    """A model's outputs on the N items of a split, in the order of the split."""

    loss: float
    """Mean of the task's loss in nats, per item, pair, word or completion token."""
    metrics: dict[MetricName, float]
    per_item: dict[MetricName, NDArray[np.float64]]
    """[N], each from 0 to 1, by metric, for the metrics that are means over items."""
    columns: dict[str, Sequence[Any]] = field(default_factory=dict)
    """The prediction for each item, for the predictions file."""
    confusion: Confusion | None = None
    """The confusion matrix of a classifier."""

    def evaluation(
        self, subject: Literal["base", "adapted"], split: Split, metric: MetricName, step: int, epoch: float
    ) -> Evaluation:
        """The evaluation to report; `metric` is the primary metric of the verdict."""
        n = len(next(iter(self.per_item.values())))
        return Evaluation(
            subject=subject,
            split=split,
            step=step,
            epoch=epoch,
            n=n,
            loss=self.loss,
            metric=metric,
            metrics=self.metrics,
        )


@dataclass(frozen=True)
class Evaluator:
    """Iterates over a split in batches."""

    device: torch.device
    batch_size: int
    pad_token: int
    bf16: bool
    between: Callable[[], None]
    """Called before each batch; may raise to stop the evaluation."""
    log: Callable[[str], None]
    """Write a line to the run's log."""
    collate: Callable[[Any, Sequence[int], int], Batch]
    max_new_tokens: int = 64
    exact: Callable[[bool], None] = lambda _enabled: None
    """Switches the measurement of memory on and off (`MemoryMeter.exact`): it slows down what it measures."""

    @contextmanager
    def judging(self, model: nn.Module) -> Iterator[None]:
        """Evaluation mode, no gradients, the run's precision. Leaves the model in evaluation mode.

        Not inference mode: autocast would then round the float32 weights of every layer again for every batch.
        """
        model.eval()
        with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            yield

    def batches(self, examples: Examples, limit: int | None = None) -> Iterator[tuple[list[int], Batch]]:
        """Row indices and their batch, the one with the most tokens first; at most `limit` rows per batch. Memory is
        measured during the heaviest ones."""
        order = evaluation_order(examples.lengths, min(self.batch_size, limit or self.batch_size))
        heaviest = examples.heaviest(order)
        for place, indices in enumerate(order):
            self.between()
            self.exact(place in heaviest)
            yield indices, self.collate(examples, indices, self.pad_token).to(self.device)

    def finite(self, loss: float) -> float:
        """Return the loss. Raises `RunFailed(diverged)` if it is not finite."""
        if not np.isfinite(loss):
            text = _(
                "The loss on an evaluation is infinite or not a number. Lower the learning rate or lengthen the "
                "warm-up."
            )
            raise RunFailed(FailureCode.DIVERGED, text)
        return loss
