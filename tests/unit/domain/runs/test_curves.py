"""Curves: thinned to what a picture shows, and smoothed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.runs.curves.downsampling import lttb
from app.domain.runs.curves.smoothing import seed_band, smoothed, still_falling, usual_factor

NUMBERS = st.one_of(st.floats(-1e6, 1e6), st.sampled_from([np.nan, np.inf, -np.inf]))


@given(st.lists(NUMBERS, max_size=500), st.integers(3, 100))
def test_at_most_so_many_points_in_order_with_both_ends(values: list[float], points: int) -> None:
    n = len(values)
    kept = lttb(np.arange(n, dtype=float), np.array(values, dtype=float), points)
    assert len(kept) == min(n, points)
    assert n == 0 or (kept[0], kept[-1]) == (0, n - 1)
    assert (np.diff(kept) > 0).all()


@given(st.integers(0, 9_999), st.sampled_from([1.0, -1.0]))
def test_a_single_spike_survives(place: int, height: float) -> None:
    y = np.zeros(10_000)
    y[place] = height
    assert place in lttb(np.arange(10_000.0), y, 100)


def test_each_point_spans_the_largest_triangle_of_its_bucket() -> None:
    """By hand, of nine points in five: the buckets are the second and third, fourth and fifth, sixth to eighth."""
    x, y = np.arange(9.0), np.array([0, 1, 5, 4, -3, 2, 0, 9, 1], dtype=float)
    assert lttb(x, y, 5).tolist() == [0, 2, 4, 7, 8]


def test_the_same_values_elsewhere_span_other_triangles() -> None:
    y = np.array([0.0, 0.0, 8.5, 10.0])
    assert lttb(np.array([0.0, 1.0, 9.0, 10.0]), y, 3).tolist() == [0, 1, 3]
    assert lttb(np.array([0.0, 0.2, 9.0, 10.0]), y, 3).tolist() == [0, 2, 3]


def test_values_that_are_not_finite_push_out_no_others() -> None:
    """One in ten of a curve far from zero: what is kept shows the curve nearly everywhere, and its spike."""
    y = 5 + np.random.default_rng(0).normal(size=10_000)
    y[::10] = np.nan
    y[4321] = 50
    kept = lttb(np.arange(10_000.0), y, 100)
    assert np.isfinite(y[kept]).mean() > 0.9
    assert 4321 in kept


def test_where_nothing_is_finite_places_are_kept() -> None:
    kept = lttb(np.arange(1000.0), np.full(1000, np.nan), 50)
    assert len(kept) == 50
    assert np.diff(kept).max() < 45


@given(st.floats(-100, 100), st.floats(0, 0.999), st.integers(1, 300))
def test_a_constant_stays_that_constant_from_the_first_step(value: float, factor: float, steps: int) -> None:
    assert np.allclose(smoothed(np.full(steps, value), factor), value)


def test_the_first_value_is_itself_and_the_second_is_weighed_as_in_adam() -> None:
    calm = smoothed(np.array([10.0, 0.0, 0.0]), 0.6)
    # m_1 = 0.4·10, m_2 = 0.6·m_1, m_3 = 0.36·m_1; 1 − βᵗ = 0.4, 0.64, 0.784
    assert calm == pytest.approx([10.0, 2.4 / 0.64, 1.44 / 0.784])


def test_no_smoothing_leaves_what_was_measured() -> None:
    values = np.array([3.0, 1.0, np.nan])
    assert smoothed(values, 0.0) is values
    assert len(smoothed(np.zeros(0), 0.5)) == 0


def test_what_is_not_finite_has_no_weight() -> None:
    calm = smoothed(np.array([np.nan, 2.0, np.inf, 2.0]), 0.9)
    assert np.isnan(calm[0])
    assert calm[1:] == pytest.approx([2.0, 2.0, 2.0])


def test_seeds_that_share_their_steps_are_taken_as_they_are() -> None:
    steps = np.arange(1.0, 4.0)
    found = seed_band([(steps, np.array([1.0, 2.0, 3.0])), (steps, np.array([3.0, 2.0, 1.0]))])
    assert found.x is steps
    assert found.mean.tolist() == [2.0, 2.0, 2.0]
    assert (found.low.tolist(), found.high.tolist()) == ([1.0, 2.0, 1.0], [3.0, 2.0, 3.0])
    assert found.fewer_from is None


def test_where_a_seed_ended_early_the_others_go_on_and_it_is_said_how_many() -> None:
    found = seed_band(
        [(np.arange(1.0, 3.0), np.array([1.0, 1.0])), (np.arange(1.0, 5.0), np.array([3.0, 3.0, 5.0, 7.0]))]
    )
    assert found.mean.tolist() == [2.0, 2.0, 5.0, 7.0]
    assert found.seeds.tolist() == [2, 2, 1, 1]
    assert found.fewer_from == 3.0


def test_seeds_at_different_seconds_are_read_on_one_grid_and_not_beyond_their_ends() -> None:
    found = seed_band(
        [(np.array([0.0, 2.0, 4.0]), np.array([0.0, 2.0, 4.0])), (np.array([0.0, 1.0, 2.0]), np.array([2.0] * 3))]
    )
    assert found.x.tolist() == [0.0, 2.0, 4.0]
    assert found.mean.tolist() == [1.0, 2.0, 4.0]
    assert found.seeds.tolist() == [2, 2, 1]


def test_a_value_that_is_not_finite_is_left_out_of_mean_and_band() -> None:
    steps = np.arange(3.0)
    found = seed_band([(steps, np.array([1.0, np.nan, 1.0])), (steps, np.array([3.0, 3.0, np.inf]))])
    assert found.mean.tolist() == [2.0, 3.0, 1.0]
    assert found.high.tolist() == [3.0, 3.0, 1.0]


def test_without_a_seed_there_is_nothing() -> None:
    assert len(seed_band([]).x) == 0
    assert seed_band([(np.zeros(0), np.zeros(0))]).fewer_from is None


def test_a_runs_own_page_averages_over_a_fortieth_of_it() -> None:
    assert usual_factor(20) == 0.0
    assert usual_factor(4000) == pytest.approx(0.99)


def test_a_loss_that_falls_to_the_end_is_not_called_level() -> None:
    steps = np.arange(240)
    assert still_falling(1.5 - 0.004 * steps) is True
    assert still_falling(1.5 * np.exp(-steps / 20) + 0.1) is False
    assert still_falling(np.ones(10)) is None


def test_noise_is_no_trend() -> None:
    chance, steps = np.random.default_rng(1), np.arange(1, 247)
    law = 1.5 * np.exp(-steps / 60) + 0.12
    trends = [
        {still_falling(law + chance.gamma(2, 0.04, len(steps)) - 0.08) for _arm in range(3)} for _study in range(200)
    ]
    assert sum({True, False} <= of_study for of_study in trends) <= 2, "arms of one law seem to differ"
