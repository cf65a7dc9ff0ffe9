"""Learning-rate schedules, against their formulas and against transformers."""

import pytest
import torch
from transformers import get_scheduler

from worker.engine.loop.train import Schedule, factor, warmup


def test_warm_up_rises_to_the_peak_and_no_step_is_lost() -> None:
    factors = [factor(step, 10, 4, "linear") for step in range(1, 11)]
    assert factors == pytest.approx([0.25, 0.5, 0.75, 1, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6])


@pytest.mark.parametrize("kind", ["linear", "cosine", "constant"])
def test_without_warm_up_it_is_transformers_schedule(kind: Schedule) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = get_scheduler(kind, optimizer, num_warmup_steps=0, num_training_steps=12)
    for step in range(1, 13):
        assert factor(step, 12, 0, kind) == pytest.approx(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()


def test_warm_up_below_one_is_a_share() -> None:
    assert warmup(0.06, 246) == 15
    assert warmup(0, 246) == 0
    assert warmup(30, 246) == 30
    assert warmup(30, 20) == 20


def test_a_single_step_has_the_full_rate() -> None:
    assert factor(1, 1, 1, "linear") == 1
    assert factor(1, 1, 0, "cosine") == 1
