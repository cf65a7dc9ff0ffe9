"""Fewer points, the same picture."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from app.domain.thinning import lttb


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
