"""Fewer points, the same picture."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from app.domain.runs.curves.downsampling import lttb

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
