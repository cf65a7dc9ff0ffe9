"""What singular values say, on values that one can work out by hand."""

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
