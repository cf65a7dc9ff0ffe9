"""Error rates of verdicts over simulated studies, with and without a search."""

from math import sqrt

import numpy as np
import pytest

from app.domain.comparison.statistics.intervals import difference
from app.domain.comparison.statistics.verdict import VerdictKind, confidence_after, holm
from app.domain.studies.alternative import Alternative
from app.domain.studies.power import detectable_difference
from benchmarks import tuned_verdict as tuned
from benchmarks import verdict
from benchmarks import verdict as simulated

STUDIES = 1000
MOST = 0.06
"""No cell may claim more often than this."""
CELL_TOLERANCE = 3 * sqrt(MOST * (1 - MOST) / STUDIES)
"""What 1,000 studies cannot tell: three standard errors, as 120 cells are looked at."""


def test_the_simulated_arms_have_the_accuracy_and_the_seed_sd_that_they_are_said_to_have() -> None:
    study = np.concatenate(list(simulated.studies(simulated.Design(5, 2000, 0.023), 300, seed=1)))
    means = study.mean(axis=2)
    residual = 0.024 / 2000
    assert means.mean() == pytest.approx(0.89, abs=0.002)
    assert np.sqrt(means.var(axis=1, ddof=1).mean() - residual) == pytest.approx(0.023, abs=0.0015)


@pytest.mark.nightly
@pytest.mark.parametrize(
    "lasting_sd",
    [
        pytest.param(0.0, marks=pytest.mark.nightly, id="one method twice"),
        pytest.param(2.0, marks=pytest.mark.slow, id="two methods"),
    ],
)
def test_arms_without_a_difference_are_seldom_called_different(lasting_sd: float) -> None:
    rates = {cell: simulated.claimed(cell, STUDIES) for cell in simulated.grid(lasting_sd)}
    worst = max(rates, key=rates.__getitem__)
    assert rates[worst] <= MOST + CELL_TOLERANCE, worst
    assert np.mean(list(rates.values())) <= 0.05
    assert np.mean([rate for cell, rate in rates.items() if not cell.shared]) <= 0.05


@pytest.mark.nightly
def test_of_five_equal_arms_any_is_seldom_called_different() -> None:
    truth = simulated.Design(3, 646, 0.007, accuracies=(0.89,) * 5)
    assert simulated.judged(truth, 500, 0.01) <= 0.05 + 3 * sqrt(0.05 * 0.95 / 500)


@pytest.mark.nightly
@pytest.mark.parametrize(("seeds", "seed_sd"), [(2, 0.013), (3, 0.004)])
def test_adding_seeds_to_the_undecided_adds_a_hundredth_to_false_claims(seeds: int, seed_sd: float) -> None:
    first, last = simulated.extended(simulated.Design(seeds, 646, seed_sd, lasting_sd=2.0), 500, 0.02)
    assert first <= last <= first + 0.0125 + 3 * sqrt(0.0125 / 500)


@pytest.mark.parametrize("seeds", [3, 5])
def test_an_arm_that_is_added_never_makes_an_earlier_one_different(seeds: int) -> None:
    """So additions add little to the 5 % of the first verdict, whose simulation needs far more studies."""
    design = simulated.Design(seeds, 646, 0.007, accuracies=(0.89,) * 6, lasting_sd=simulated.LASTING_SD)
    rates = simulated.one_by_one(design, 200, 0.02, looks=True)
    assert sum(rates[1:]) <= 0.0058 + 3 * sqrt(0.0058 / 200)
    for study in simulated.studies(design, 50, 1):
        before: set[str] = set()
        for look in range(5):
            seen = {str(arm): difference(study[arm], study[0]) for arm in range(1, look + 2)}
            judged = holm(seen, -0.02, confidence=confidence_after(look))
            found = {arm for arm, one in judged.items() if one.excludes_zero}
            assert found - {str(look + 1)} <= before
            before |= found


@pytest.mark.parametrize(("seeds", "seed_sd"), [(3, 0.004), (5, 0.007)])
def test_a_difference_of_twice_the_margin_is_found(seeds: int, seed_sd: float) -> None:
    truth = simulated.Design(seeds, 646, seed_sd, accuracies=(0.89, 0.85), lasting_sd=simulated.LASTING_SD)
    assert simulated.judged(truth, 300, 0.02, lambda verdict: verdict.kind is VerdictKind.WORSE) >= 0.8


@pytest.mark.parametrize(
    ("distance", "alternative"),
    [(-0.02, Alternative.NON_INFERIORITY), (-0.02, Alternative.EQUIVALENCE), (0.02, Alternative.EQUIVALENCE)],
)
def test_an_arm_at_the_margin_is_seldom_called_good_enough(distance: float, alternative: Alternative) -> None:
    truth = simulated.Design(5, 2000, 0.004, accuracies=(0.89, 0.89 + distance), lasting_sd=simulated.LASTING_SD)
    wanted = (VerdictKind.ENOUGH, VerdictKind.WITHIN)
    rate = simulated.judged(truth, STUDIES, 0.02, lambda verdict: verdict.kind in wanted, alternative)
    assert rate <= 0.025 + 3 * sqrt(0.025 * 0.975 / STUDIES)


@pytest.mark.nightly
def test_of_four_arms_that_lose_the_margin_any_is_seldom_called_enough() -> None:
    truth = simulated.Design(3, 646, accuracies=(0.89, *(0.87,) * 4), lasting_sd=simulated.LASTING_SD)
    assert simulated.judged(truth, 500, 0.02, lambda v: v.kind.good_enough) <= 0.05 + 3 * sqrt(0.05 * 0.95 / 500)


@pytest.mark.nightly
def test_arms_that_are_added_one_by_one_are_seldom_called_different_at_any_time() -> None:
    truth = simulated.Design(5, 646, accuracies=(0.89,) * 10, lasting_sd=simulated.LASTING_SD)
    assert sum(simulated.one_by_one(truth, 2000, 0.02, looks=True)) <= 0.05 + 3 * sqrt(0.05 * 0.95 / 2000)


@pytest.mark.parametrize(("seeds", "points"), [(3, 1.9), (5, 1.5)])
def test_the_half_width_of_a_study_of_646_items_is_as_documented_and_as_planned(seeds: int, points: float) -> None:
    pairs = [difference(s[1], s[0]) for s in simulated.studies(simulated.realistic(seeds), 500, seed=3)]
    assert sqrt(np.mean([d.seed_variance for d in pairs])) == pytest.approx(0.007, abs=0.0004)
    mean = float(np.mean([d.half_width for d in pairs]))
    assert 100 * mean == pytest.approx(points, abs=0.15)
    assert detectable_difference(646, seeds, 0.89) == pytest.approx(mean, rel=0.1)


@pytest.mark.parametrize("name", simulated.copies(300))
def test_copies_of_items_do_not_make_arms_differ(name: str) -> None:
    truth = simulated.Design(5, 300, 0.004, lasting_sd=simulated.LASTING_SD)
    assert simulated.repeated(truth, simulated.copies(300)[name], 300) <= 0.05 + 3 * sqrt(0.05 * 0.95 / 300)


@pytest.mark.parametrize("name", simulated.group_sizes())
def test_groups_of_correlated_items_do_not_make_arms_differ(name: str) -> None:
    truth = simulated.Design(5, seed_sd=0.004, lasting_sd=4 * simulated.LASTING_SD)
    as_items, as_clusters = simulated.grouped(truth, simulated.group_sizes()[name], 0.5, 300)
    assert as_clusters <= 0.05 + 3 * sqrt(0.05 * 0.95 / 300)
    assert as_items == as_clusters if name == "of 1" else as_items > as_clusters + 0.04


def test_copies_that_are_taken_as_items_do() -> None:
    truth = simulated.Design(5, 300, 0.004, lasting_sd=simulated.LASTING_SD)
    assert simulated.repeated(truth, simulated.copies(300)["four times"], 300, known=False) > 0.12


TUNED_STUDIES = 200
SMALL = verdict.Design(3, 646, 0.004, lasting_sd=2.0)


def claims(kind: str, cost: float, studies: int = TUNED_STUDIES, validation: int = 150) -> object:
    return tuned.claims(tuned.Tuned(kind, cost, validation, SMALL), studies)


def test_choosing_on_validation_makes_no_difference_where_there_is_none() -> None:
    found = [tuned.judged(final, [(tuned.Found(0.89, 0.0),) * 2] * 400) for final in tuned.FINALS]
    assert {one.unlike for one in found} == {0.0}
    assert max(one.any for one in found) <= 0.06 + 3 * sqrt(0.06 * 0.94 / 400)
    assert claims("halving", 0.0, 20).unlike == 0.0


@pytest.mark.by_day
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["rates", "grid", "random", "halving"])
def test_what_is_said_of_arms_at_their_configurations_is_seldom_false(kind: str) -> None:
    found = [claims(kind, cost) for cost in (0.01, 0.04)]
    assert np.mean([one.false for one in found]) <= 0.05
    for one in found:
        alike = TUNED_STUDIES * (1 - one.unlike)
        assert one.equal <= 0.06 + 3 * sqrt(0.06 * 0.94 / alike), "arms at equally good configurations"
    assert all(one.unlike > 0.1 for one in found), "150 items do not tell such configurations apart"


def test_the_variance_of_a_choice_is_that_of_choosing_again() -> None:
    assert tuned.choice_variance([0.9, 0.5, 0.4], 1000) < 1e-12, "nothing else would be chosen"
    close = tuned.choice_variance([0.90, 0.89, 0.88], 150)
    assert 0.002**2 < close < 0.01**2, "of three configurations a point apart"
    assert tuned.choice_variance([0.90, 0.89, 0.88], 100_000) < close
    found = claims("rates", 0.04)
    assert found.widened < found.any and found.wider > found.width


@pytest.mark.slow
def test_tpe_makes_no_more_false_claims() -> None:
    assert claims("tpe", 0.04, 60).false <= 0.05


def test_enough_validation_items_choose_the_better_rate_more_often() -> None:
    few, many = (claims("rates", 0.04, validation=items).unlike for items in (150, 2000))
    assert many < 0.8 * few
