"""What a single run learned, as far as it shows: its most frequent prediction, its training loss, its evaluations."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from app.domain.comparison.learning.learning import Progress, validation_progress
from app.domain.comparison.learning.loss_trend import LossTrend, loss_trend
from app.domain.runs.result import RunResult, Steps


@dataclass(frozen=True)
class RunLearning:
    predicted: str
    """Its most frequent prediction on the test items; empty without a confusion matrix."""
    share: float | None
    """Share of the test items."""
    trend: LossTrend | None
    """Whether the training loss was still falling; None with too few steps."""
    progress: Progress | None
    """Its evaluations on the validation split; None with fewer than two."""

    @classmethod
    def of(cls, result: RunResult, steps: Steps | None, labels: Sequence[str]) -> Self:
        """`steps` are those that are stored; `labels` the dataset's."""
        confusion = result.confusion
        label, share = confusion.most_predicted if confusion and confusion.answers else (None, None)
        return cls(
            predicted="" if label is None else labels[label] if label < len(labels) else str(label),
            share=share,
            trend=loss_trend(steps["loss"]) if steps is not None else None,
            progress=validation_progress(result),
        )
