"""The verdict where rates were tuned first, on simulated studies of two arms that are one method.

The studies come from benchmarks/tuned_verdict.py. Seeds are fixed, so these tests cannot flicker.
"""

import importlib.util
import sys
from math import sqrt
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tests.unit.domain.comparison.test_verdict_simulated import simulated as verdict

STUDIES = 300
FINALS = [verdict.Design(seeds, items, 0.004, lasting_sd=2.0) for seeds, items in ((3, 646), (5, 646), (5, 2000))]
FLAT, PEAKED, STEEP = (0.89, 0.89, 0.89), (0.88, 0.89, 0.88), (0.85, 0.89, 0.85)


def _simulator() -> ModuleType:
    path = Path(__file__).parents[4] / "benchmarks" / "tuned_verdict.py"
    spec = importlib.util.spec_from_file_location("simulated_tuning", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.modules.setdefault("verdict", verdict)  # as it is called beside it
    spec.loader.exec_module(module)
    return module


tuned = _simulator()


def claims(by_rate: tuple[float, ...], **values: object) -> list[object]:
    return [tuned.claims(tuned.Tuned(by_rate=by_rate, final=final, **values), STUDIES) for final in FINALS]


def test_choosing_a_rate_on_validation_makes_no_difference_where_there_is_none() -> None:
    found = [one for items in (150, 1000) for one in claims(FLAT, validation=items)]
    assert {one.unlike for one in found} == {0.0}
    rates = [one.any for one in found]
    assert np.mean(rates) <= 0.05
    assert max(rates) <= 0.06 + 3 * sqrt(0.06 * 0.94 / STUDIES)


@pytest.mark.parametrize("by_rate", [PEAKED, STEEP])
def test_what_is_said_of_arms_at_their_rates_is_seldom_false(by_rate: tuple[float, ...]) -> None:
    found = [one for items in (150, 1000) for one in claims(by_rate, validation=items)]
    assert np.mean([one.false for one in found]) <= 0.05


def test_enough_validation_items_choose_the_better_rate_and_then_arms_are_seldom_called_different() -> None:
    found = claims(STEEP, validation=1000)
    assert max(one.unlike for one in found) <= 0.02
    assert np.mean([one.any for one in found]) <= 0.05
