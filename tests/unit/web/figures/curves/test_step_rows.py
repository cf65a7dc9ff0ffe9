"""Curves of steps: what a thinned answer picks, which columns there are, and how numbers are written into a CSV."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from app.domain.runs.result import STEP_DTYPE, StepMetrics, to_array
from app.store.runs.steps import column, picked
from app.web.figures.curves.step_rows import step_table


def made(first: int, count: int) -> np.ndarray:
    steps = np.zeros(count, STEP_DTYPE)
    steps["step"], steps["loss"] = np.arange(first, first + count), np.arange(first, first + count) / 8
    return steps


@given(st.lists(st.integers(0, 5), max_size=8), st.data())
def test_picking_out_of_pieces_is_picking_out_of_the_whole(sizes: list[int], data: st.DataObject) -> None:
    firsts = np.cumsum([1, *sizes])
    chunks = [made(int(first), size) for first, size in zip(firsts, sizes, strict=False)]
    whole = np.concatenate([np.empty(0, STEP_DTYPE), *chunks])
    places = st.lists(st.integers(0, len(whole) - 1), unique=True) if len(whole) else st.just([])
    at = np.array(sorted(data.draw(places)), np.intp)
    assert (picked(chunks, at) == whole[at]).all()
    assert (column(chunks, "loss", np.float64) == whole["loss"].astype(np.float64)).all()


def test_a_table_of_every_step_says_what_was_measured_and_no_digit_more() -> None:
    step = StepMetrics(
        step=1, epoch=0.001, loss=0.7, learning_rate=2e-5, grad_norm=1.25, tokens=170, seconds=0.1, memory_bytes=2**40
    )
    (row,) = step_table(("arm", "seed"), [(("lora", 0), to_array([step]))]).rows
    assert row == ("lora", 0, 1, 0.001, 0.7, 2e-05, 1.25, 170, 0.1, 2**40)
