"""Fewer points, the same picture."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from app.domain.thinning import extremes, lttb


@given(st.integers(1, 500), st.integers(3, 100))
def test_at_most_so_many_points_in_order_with_both_ends(n: int, points: int) -> None:
    x = np.arange(n, dtype=float)
    kept = lttb(x, np.sin(x), points)
    assert len(kept) == min(n, points)
    assert (kept[0], kept[-1]) == (0, n - 1)
    assert (np.diff(kept) > 0).all()


def test_a_single_spike_survives() -> None:
    y = np.zeros(10_000)
    y[4321] = 1
    assert 4321 in lttb(np.arange(10_000.0), y, 100)


def test_a_value_that_is_not_finite_does_no_harm() -> None:
    y = np.ones(1000)
    y[10] = np.nan
    assert len(lttb(np.arange(1000.0), y, 50)) == 50


@given(st.integers(1, 400), st.integers(1, 60), st.integers(0, 99))
def test_the_extremes_of_all_are_among_the_extremes_kept(n: int, buckets: int, seed: int) -> None:
    y = np.random.default_rng(seed).normal(size=n)
    kept = extremes(y, buckets)
    assert len(kept) <= 2 * buckets + 2
    assert (kept[0], kept[-1]) == (0, n - 1)
    assert (np.diff(kept) > 0).all()
    assert (y[kept].min(), y[kept].max()) == (y.min(), y.max())


def test_each_bucket_keeps_its_own_spike() -> None:
    y = np.zeros(100_000)
    spikes = np.arange(500, 100_000, 1000)
    y[spikes] = np.where(np.arange(100) % 2, 1.0, -1.0)
    y[77] = np.nan
    assert set(spikes) <= set(extremes(y, 100).tolist())
