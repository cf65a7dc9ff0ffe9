"""Single precision is written with the digits that mean it, and no more."""

from decimal import Decimal

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from app.domain.runs.listing.digits import plain, shortest

singles = st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False)


@given(st.lists(singles, max_size=30))
def test_what_is_written_reads_back_as_the_same_number(values: list[float]) -> None:
    x = np.array(values, np.float32)
    assert (shortest(x).astype(np.float32) == x).all()


@given(st.decimals(min_value=-1000, max_value=1000, places=3))
def test_a_decimal_of_six_digits_comes_back_as_it_was_said(said: object) -> None:
    number = float(str(said))
    assert plain(np.array([number], np.float32)) == [number]


@given(st.integers(1, 2**24), st.integers(-12, 6))
def test_no_decimal_has_more_digits_than_numpy_writes(digits: int, power: int) -> None:
    x = np.array([digits * 10.0**power], np.float32)
    written, theirs = (Decimal(repr(value)).normalize().as_tuple().digits for value in (plain(x)[0], float(str(x[0]))))
    assert len(written) <= max(len(theirs), 6)


def test_what_is_not_finite_and_what_is_no_single_precision_stays() -> None:
    odd = np.array([np.nan, np.inf, -np.inf, 0.0, 1e-30], np.float32)
    found = plain(odd)
    assert np.isnan(found[0]) and found[1:4] == [np.inf, -np.inf, 0.0] and np.float32(found[4]) == odd[4]
    assert plain(np.array([1, 2**40])) == [1, 2**40]
    assert plain(np.array([0.1 + 0.2])) == [0.1 + 0.2]
    assert plain(np.array([], np.float32)) == []
