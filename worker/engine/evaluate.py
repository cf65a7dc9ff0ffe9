"""What a model says about a split: loss, accuracy, macro-F1 and a prediction for every item."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import f1_score
from torch import nn
from torch.nn import functional

from app.domain.datasets import Split
from app.domain.errors import RunFailed
from app.domain.metrics import Evaluation
from app.domain.runs import FailureCode
from worker.engine.data import Examples, collate, evaluation_order


@dataclass(frozen=True)
class Predictions:
    """A model's answers on the N items of a split, in the order of the split."""

    labels: NDArray[np.int64]
    """[N], the true ones."""
    probabilities: NDArray[np.float32]
    """[N, labels], softmax of the logits."""
    loss: float
    """Mean cross-entropy, nats per item."""

    @property
    def predicted(self) -> NDArray[np.int64]:
        """[N], the most probable label."""
        return np.asarray(self.probabilities.argmax(axis=1))

    @property
    def scores(self) -> NDArray[np.float64]:
        """[N], 1 where the prediction is right, else 0."""
        return np.equal(self.predicted, self.labels).astype(np.float64)

    def evaluation(self, subject: Literal["base", "adapted"], split: Split, step: int, epoch: float) -> Evaluation:
        """The metrics. Macro-F1 is the plain mean over all labels; one that never occurs nor is predicted counts 0."""
        every = range(self.probabilities.shape[1])
        return Evaluation(
            subject=subject,
            split=split,
            step=step,
            epoch=epoch,
            n=len(self.labels),
            loss=self.loss,
            accuracy=float(self.scores.mean()),
            macro_f1=float(f1_score(self.labels, self.predicted, labels=every, average="macro", zero_division=0)),
        )


@dataclass(frozen=True)
class Evaluator:
    """How every evaluation of an attempt is done, so that all are done alike."""

    device: torch.device
    batch_size: int
    pad_token: int
    bf16: bool
    between: Callable[[], None]
    """Called before each batch; may raise to stop."""

    def __call__(self, model: nn.Module, examples: Examples) -> Predictions:
        """Predict a split without dropout. Leaves the model in evaluation mode.

        Raises `RunFailed(diverged)` if a loss is not finite.
        """
        model.eval()
        order = evaluation_order(examples.lengths, self.batch_size)
        logits = []
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            for indices in order:
                self.between()
                batch = collate(examples, indices, self.pad_token).to(self.device)
                output = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
                logits.append(output.float().cpu())
        rows = torch.tensor([i for indices in order for i in indices])
        scattered = torch.empty_like(joined := torch.cat(logits))
        scattered[rows] = joined
        labels = torch.tensor([row.label for row in examples.rows])
        loss = functional.cross_entropy(scattered, labels).item()
        if not np.isfinite(loss):
            raise RunFailed(
                FailureCode.DIVERGED,
                "The loss on an evaluation is infinite or not a number. Lower the learning rate or lengthen the "
                "warm-up.",
            )
        return Predictions(labels.numpy(), scattered.softmax(dim=1).numpy(), loss)
