"""The share of the training rows that a run uses."""

from hypothesis import given
from hypothesis import strategies as st

from app.domain.data.dataset import TextRow, item_name, training_rows

ROWS = [TextRow(item_name(str(number)), "train", str(number)) for number in range(200)]
FRACTIONS = st.floats(min_value=0.001, max_value=1)


@given(FRACTIONS, FRACTIONS)
def test_a_smaller_share_is_a_subset_of_a_larger_one_in_the_same_order(one: float, other: float) -> None:
    smaller, larger = sorted([training_rows(ROWS, one), training_rows(ROWS, other)], key=len)
    assert set(smaller) <= set(larger)
    assert smaller == [row for row in ROWS if row in set(smaller)]


def test_the_share_is_rounded_and_is_never_empty() -> None:
    assert [len(training_rows(ROWS, share)) for share in (1e-6, 0.1, 0.333, 1)] == [1, 20, 67, 200]
    assert training_rows(ROWS, 1) == ROWS
    assert training_rows([], 0.5) == []


def test_the_choice_does_not_depend_on_the_order_of_the_rows() -> None:
    assert set(training_rows(ROWS[::-1], 0.25)) == set(training_rows(ROWS, 0.25))


def test_repeated_rows_are_counted_one_by_one() -> None:
    assert len(training_rows([ROWS[0]] * 10, 0.5)) == 5
