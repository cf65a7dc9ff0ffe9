"""Weight deltas: numbers of a spectrum, and the summary over matrices."""

import math

import numpy as np
import pytest

from app.domain.models.spectra import (
    MOST_VALUES,
    Spectrum,
    effective_rank,
    energy_kept,
    rank_holding,
    ranks_shown,
    stable_rank,
)
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


def test_a_single_direction_is_all_of_it() -> None:
    found = Spectrum.of(np.array([3.0, 0.0, 0.0]))
    assert (found.effective_rank, found.stable_rank, found.norm) == (1.0, 1.0, 3.0)
    assert (found.rank_50, found.rank_90, found.rank_99) == (1, 1, 1)
    assert found.energy == [1.0, 1.0, 1.0]


def test_equal_directions_count_in_full() -> None:
    found = Spectrum.of(np.full(10, 2.0))
    assert found.effective_rank == pytest.approx(10)
    assert found.stable_rank == pytest.approx(10)
    assert (found.rank_50, found.rank_90, found.rank_99) == (5, 9, 10)
    assert found.energy_at(1) == pytest.approx(0.1)
    assert found.energy_at(8) == pytest.approx(0.8)


def test_a_known_spectrum_gives_the_numbers_of_the_formulas() -> None:
    values = np.array([4.0, 3.0, 0.0])  # energies 16 and 9 of 25; shares of the sum 4/7 and 3/7
    assert energy_kept(values).tolist() == pytest.approx([0.64, 1.0, 1.0])
    entropy = -(4 / 7 * math.log(4 / 7) + 3 / 7 * math.log(3 / 7))
    assert effective_rank(values) == pytest.approx(math.exp(entropy))
    assert stable_rank(values) == pytest.approx(25 / 16)
    assert [rank_holding(share, values) for share in (0.5, 0.64, 0.65, 1.0)] == [1, 1, 2, 2]


def test_a_matrix_of_zeros_has_rank_0_and_every_rank_holds_it() -> None:
    found = Spectrum.of(np.zeros(4))
    assert (found.effective_rank, found.stable_rank, found.rank_90, found.norm) == (0.0, 0.0, 0, 0.0)
    assert found.energy_at(1) == 1.0


def test_the_scale_changes_the_norm_alone() -> None:
    values = np.array([5.0, 2.0, 1.0])
    one, other = Spectrum.of(values), Spectrum.of(1e-9 * values)
    assert other.norm == pytest.approx(1e-9 * one.norm)
    assert other.effective_rank == pytest.approx(one.effective_rank)
    assert other.energy == pytest.approx(one.energy)


def test_many_values_are_thinned_to_a_few_and_the_energies_stay_exact() -> None:
    values = np.sort(np.random.default_rng(0).gamma(2.0, size=768))[::-1]
    found = Spectrum.of(values)
    assert len(found.values) == len(found.value_ranks) <= MOST_VALUES
    assert (found.value_ranks[0], found.value_ranks[-1], found.count) == (1, 768, 768)
    assert found.value_ranks == sorted(set(found.value_ranks))
    exact = energy_kept(values)
    for rank in ranks_shown(768):
        assert found.energy_at(rank) == pytest.approx(exact[rank - 1], abs=1e-12)
    for rank in (5, 21, 100, 700):
        assert exact[rank - 1] - 0.02 < found.energy_at(rank) <= exact[rank - 1]
    assert found.energy_at(5000) == 1.0


def test_ranks_are_two_to_a_doubling_and_end_with_the_last() -> None:
    assert ranks_shown(20) == [1, 2, 3, 4, 6, 8, 12, 16, 20]
    assert (ranks_shown(1), ranks_shown(0)) == ([1], [])


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_what_is_not_finite_is_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        Spectrum.of(np.array([wrong, 1.0]))
