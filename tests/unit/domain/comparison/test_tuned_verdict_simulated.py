"""The verdict where hyperparameters were searched first, on simulated studies of two arms that are one method.

The studies come from benchmarks/tuned_verdict.py. Seeds are fixed, so these tests cannot flicker.
"""

from math import sqrt

import numpy as np
import pytest

from benchmarks import tuned_verdict as tuned
from benchmarks import verdict

STUDIES = 200
SMALL = verdict.Design(3, 646, 0.004, lasting_sd=2.0)


def claims(kind: str, cost: float, studies: int = STUDIES, validation: int = 150) -> object:
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
        alike = STUDIES * (1 - one.unlike)
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
