"""Whether a training loss was still falling at the end: what is a trend, and what is noise."""

import numpy as np
import pytest

from app.domain.comparison.learning.loss_trend import FEWEST_STEPS, loss_trend


def test_a_line_down_is_falling_and_one_up_is_rising() -> None:
    noise = np.random.default_rng(0).normal(0, 0.02, 100)
    down = loss_trend(np.linspace(1.0, 0.6, 100) + noise)
    assert down and down.kind == "falling" and down.steps == 100
    assert down.half_start == pytest.approx(0.8, abs=0.02) and down.half_end == pytest.approx(0.6, abs=0.02)
    assert down.fallen == pytest.approx(0.37, abs=0.03)
    up = loss_trend(np.linspace(0.6, 1.0, 100) + noise)
    assert up and up.kind == "rising" and up.fallen < 0


def test_a_loss_that_has_settled_is_flat_however_far_it_fell_before() -> None:
    settled = loss_trend(np.concatenate([np.linspace(2, 0.5, 50), np.full(150, 0.5)]))
    assert settled and settled.kind == "flat" and settled.fallen > 0.5


def test_noise_alone_is_called_a_trend_at_most_at_twice_the_level() -> None:
    """5 % on each side."""
    rng = np.random.default_rng(1)
    trends = [loss_trend(1 + rng.normal(0, 0.2, 60)) for _ in range(400)]
    assert sum(trend is not None and trend.kind != "flat" for trend in trends) / 400 <= 0.14


def test_a_slope_too_small_to_matter_is_flat_with_any_number_of_steps() -> None:
    trend = loss_trend(np.linspace(1.0, 0.985, 20_000))
    assert trend and trend.kind == "flat"


def test_few_steps_and_infinite_losses_have_no_trend() -> None:
    assert loss_trend(np.linspace(1, 0, FEWEST_STEPS - 1)) is None
    assert loss_trend(np.array([1.0] * 20 + [np.inf])) is None
