"""The confusion matrix of a classifier on its test items."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple, Self

from pydantic import BaseModel, ConfigDict


class Answers(NamedTuple):
    """Items of one true label that got one prediction."""

    label: int
    """The true label's place in the dataset's labels."""
    predicted: int
    items: int


class Confusion(BaseModel):
    """How often each label was predicted for items of each true label; pairs that never occur are left out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    answers: list[Answers]

    @classmethod
    def of(cls, labels: Sequence[int], predicted: Sequence[int]) -> Self:
        """From [N] true and [N] predicted labels."""
        counts = Counter(zip(labels, predicted, strict=True))
        return cls(answers=[Answers(label, answer, items) for (label, answer), items in sorted(counts.items())])

    @property
    def items(self) -> int:
        """N."""
        return sum(answer.items for answer in self.answers)

    @property
    def errors(self) -> list[Answers]:
        """Wrong predictions, the most frequent first."""
        return sorted((a for a in self.answers if a.label != a.predicted), key=lambda a: -a.items)

    @property
    def predictions(self) -> Counter[int]:
        return self._sums("predicted")

    @property
    def labels(self) -> Counter[int]:
        return self._sums("label")

    @property
    def most_predicted(self) -> tuple[int, float]:
        """The most frequent prediction, and its share of all items."""
        [(label, items)] = self.predictions.most_common(1)
        return label, items / self.items

    def _sums(self, field: str) -> Counter[int]:
        sums: Counter[int] = Counter()
        for answer in self.answers:
            sums[getattr(answer, field)] += answer.items
        return sums
