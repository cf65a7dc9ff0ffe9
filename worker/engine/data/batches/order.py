"""The rows of each optimizer step and of each evaluation batch, known before anything is loaded.

A step takes `gradient_accumulation_steps` batches; the last step of an epoch takes the remaining ones.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice

from app.domain.runs.training import TrainingArguments
from worker.engine.data.batches.batches import Examples, training_order

Step = list[list[int]]
"""The batches of a step, as row indices."""


def evaluation_order(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Batches of at most `batch_size` rows, none of them shorter than half of its batch's longest: a few long rows are
    not worth the padding of many short ones. The batch with the most tokens comes first, so that a lack of memory shows
    at once."""
    batches: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        if not batches or len(batches[-1]) == batch_size or 2 * lengths[row] < lengths[batches[-1][0]]:
            batches.append([])
        batches[-1].append(row)
    return sorted(batches, key=lambda batch: len(batch) * lengths[batch[0]], reverse=True)


def heaviest_to_generate(order: Sequence[Sequence[int]]) -> set[int]:
    """Places of the batches in an `evaluation_order` of prompts that need the most memory: the first has the most keys
    and values, the one with the most rows the most logits."""
    return {0, max(range(len(order)), key=lambda place: len(order[place]))}


@dataclass(frozen=True)
class Order:
    """The steps of a run."""

    train: Examples
    arguments: TrainingArguments

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps that meet every row once."""
        batches = math.ceil(len(self.train) / self.arguments.per_device_train_batch_size)
        return math.ceil(batches / self.arguments.gradient_accumulation_steps)

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the run, unless it stops early."""
        return self.arguments.max_steps or math.ceil(self.arguments.num_train_epochs * self.steps_per_epoch)

    def steps(self) -> Iterator[Step]:
        """The batches of each optimizer step, endlessly."""
        size, together = self.arguments.per_device_train_batch_size, self.arguments.gradient_accumulation_steps
        for epoch in count():
            batches = training_order(self.train.sorted_by, size, self.arguments.seed, epoch)
            for start in range(0, len(batches), together):
                yield batches[start : start + together]

    def first_epoch(self) -> list[Step]:
        """The steps of the first epoch that the run reaches."""
        return list(islice(self.steps(), min(self.total_steps, self.steps_per_epoch)))

    def heaviest(self) -> list[tuple[int, list[int]]]:
        """Number of step, from 2, and rows: the batches after the first step that need the most memory.

        Every epoch has all rows, so two of them are searched.
        """
        until = min(self.total_steps, 2 * self.steps_per_epoch)
        later = [(step, b) for step, batches in enumerate(islice(self.steps(), 1, until), start=2) for b in batches]
        places = self.train.heaviest([batch for _step, batch in later]) if later else []
        return [later[place] for place in places]
