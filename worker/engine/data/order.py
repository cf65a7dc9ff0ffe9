"""Which rows each optimizer step has: known from lengths, seed and arguments, before anything is loaded.

A step takes `gradient_accumulation_steps` batches; the last step of an epoch takes the remaining ones.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice

from app.domain.runs.training import TrainingArguments
from worker.engine.data.batches import Examples, training_order

Step = list[list[int]]
"""The batches of a step, as row indices."""


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
            batches = training_order(self.train.lengths, size, self.arguments.seed, epoch)
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
