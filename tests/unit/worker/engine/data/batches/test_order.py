"""The steps of a run: how many, with which batches, and which of those it reaches need the most memory."""

from collections.abc import Sequence

import numpy as np
import pytest

from app.domain.data.dataset import TextRow
from app.domain.runs.training import TrainingArguments
from worker.engine.data.batches.batches import Examples
from worker.engine.data.batches.order import Order

LENGTHS = [3 + (i * 37) % 50 for i in range(100)]


def order(lengths: Sequence[int] = LENGTHS, **training: object) -> Order:
    """Of rows with a target for each token."""
    rows = [TextRow(str(i), "train", "") for i in range(len(lengths))]
    examples = Examples(rows, [np.zeros(n, dtype=np.int64) for n in lengths], lengths)
    return Order(examples, TrainingArguments.model_validate({"per_device_train_batch_size": 8} | training))


def test_an_epochs_last_step_takes_the_batches_that_remain() -> None:
    steps = order(gradient_accumulation_steps=3, num_train_epochs=1).first_epoch()
    assert [len(step) for step in steps] == [3, 3, 3, 3, 1]
    assert sorted(i for step in steps for batch in step for i in batch) == list(range(100))


@pytest.mark.parametrize(
    ("training", "total", "reached"),
    [
        ({"num_train_epochs": 3}, 39, 13),
        ({"max_steps": 4}, 4, 4),
        ({"num_train_epochs": 0.5}, 7, 7),
        ({"max_steps": 20}, 20, 13),
    ],
)
def test_a_run_reaches_some_steps_of_its_first_epoch(training: dict[str, object], total: int, reached: int) -> None:
    steps = order(**training)
    assert (steps.total_steps, len(steps.first_epoch())) == (total, reached)


def test_the_heaviest_batch_is_one_that_the_run_reaches_after_its_first_step() -> None:
    for seed in range(10):
        short = order(max_steps=4, seed=seed)
        reached = short.first_epoch()
        step, batch = short.heaviest()[0]
        assert 2 <= step <= 4 and batch in reached[step - 1]
        assert short.train.weight(batch) == max(short.train.weight(b) for later in reached[1:] for b in later)
    assert order(max_steps=1).heaviest() == []
