"""A run's weight updates in a few numbers."""

import numpy as np
import pytest

from app.domain.models.spectra import Spectrum
from app.domain.models.weight_delta import MatrixDelta, WeightDeltas, energy_curve, spread_order


def matrix(delta: list[float], *, block: int = 0, side: int = 4, intruders: int = 0) -> MatrixDelta:
    weight = Spectrum.of(np.full(side, 1.0))
    change = Spectrum.of(np.array(delta))
    return MatrixDelta(
        name=f"bert.encoder.layer.{block}.output.dense",
        block=block,
        module="output.dense",
        rows=side,
        columns=2 * side,
        norm_ratio=change.norm / weight.norm,
        delta=change,
        weight=weight,
        top=side,
        intruders=intruders,
    )


def test_a_summary_is_of_medians_and_counts_what_was_left_out() -> None:
    matrices = [matrix([1, 0, 0, 0]), matrix([1, 1, 0, 0], block=1), matrix([1, 1, 1, 1], block=2, intruders=3)]
    found = WeightDeltas(matrices=matrices, late=5, large=1, broken=["x: it holds numbers that are not finite."])
    summary = found.summary
    assert summary is not None
    assert (summary.matrices, summary.of, found.of) == (3, 10, 10)
    assert summary.effective_rank == pytest.approx(2)
    assert (summary.rank_90, summary.side, summary.possible_rank) == (2, 4, 4)
    assert (summary.intruders, summary.top) == (3, 12)
    assert summary.norm_ratio == pytest.approx(np.sqrt(2) / 2)
    assert summary.weight_effective_rank == pytest.approx(4)


def test_half_a_rank_is_rounded_up_since_half_a_direction_holds_nothing() -> None:
    summary = WeightDeltas(matrices=[matrix([1, 0, 0, 0]), matrix([1, 1, 0, 0])]).summary
    assert summary is not None
    assert summary.rank_90 == 2  # the median is 1.5


def test_without_a_matrix_there_is_no_summary() -> None:
    assert WeightDeltas(unchanged="head").summary is None
    assert WeightDeltas(late=3).summary is None


def test_a_curve_is_a_median_over_matrices_of_which_thin_ones_are_whole_early() -> None:
    thin, wide = Spectrum.of(np.array([1.0, 1.0])), Spectrum.of(np.full(4, 1.0))
    curve = {point.rank: point for point in energy_curve([thin, wide])}
    assert list(curve) == [1, 2, 3, 4]
    assert [point.median for point in curve.values()] == pytest.approx([0.375, 0.75, 0.875, 1.0])
    assert curve[1].low == pytest.approx(0.275)
    assert curve[1].high == pytest.approx(0.475)


@pytest.mark.parametrize("n", [1, 7, 36, 37, 224])
def test_every_beginning_of_the_order_is_spread_evenly(n: int) -> None:
    order = spread_order(n)
    assert sorted(order) == list(range(n))
    for taken in range(2, n + 1):
        places = sorted(order[:taken])
        gaps = np.diff([places[-1] - n, *places])
        assert gaps.max() <= 3 * n / taken + 1


def test_the_first_of_the_order_are_of_every_kind_of_module() -> None:
    """Six linear layers a block, one after another: a regular stride would meet the same ones again and again."""
    assert {place % 6 for place in spread_order(36)[:12]} == set(range(6))
