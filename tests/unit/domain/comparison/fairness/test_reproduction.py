"""What a run that was trained again is called."""

import numpy as np
import pytest
from scipy import stats

from app.domain.comparison.fairness.reproduction import ReproductionOutcome, prediction_interval, reproduction

SEEDS = [0.90, 0.91, 0.89]
MANY = 10**6
"""Items, of which one does not matter."""


def scores(right: int, n: int = 100) -> np.ndarray:
    """[N]: the first items are right."""
    return np.asarray([1.0] * right + [0.0] * (n - right))


def test_the_interval_is_that_of_one_more_observation() -> None:
    found = prediction_interval(SEEDS, MANY)
    assert found is not None
    expected = stats.t.interval(0.95, df=2, loc=0.9, scale=np.std(SEEDS, ddof=1) * np.sqrt(1 + 1 / 3))
    assert found == pytest.approx(expected, abs=1e-9)
    assert prediction_interval([0.99, 0.96], MANY) == pytest.approx(
        (0.975 - 12.7062 * 0.0212132 * np.sqrt(1.5), 1.0), abs=1e-5
    )
    assert prediction_interval([0.9], MANY) is None


@pytest.mark.parametrize("count", [2, 3, 5])
def test_it_covers_another_seed_in_95_of_100_cases(count: int) -> None:
    rng, inside = np.random.default_rng(count), 0
    for _draw in range(4000):
        *known, new = rng.normal(0.5, 0.01, size=count + 1)
        found = prediction_interval(known, MANY)
        assert found is not None
        inside += found[0] <= new <= found[1]
    assert inside / 4000 == pytest.approx(0.95, abs=0.012)


@pytest.mark.parametrize(
    ("again", "seeds", "outcome"),
    [
        (scores(90), SEEDS, ReproductionOutcome.IDENTICAL),
        (scores(90), [0.9], ReproductionOutcome.IDENTICAL),
        (scores(93), SEEDS, ReproductionOutcome.WITHIN),
        (scores(80), SEEDS, ReproductionOutcome.OUTSIDE),
        (scores(98), SEEDS, ReproductionOutcome.OUTSIDE),
        (scores(93), [0.9], ReproductionOutcome.UNKNOWN),
        (scores(90)[::-1], SEEDS, ReproductionOutcome.WITHIN),
        (scores(90), [0.9, 0.9], ReproductionOutcome.IDENTICAL),
        (scores(91), [0.9, 0.9, 0.9], ReproductionOutcome.WITHIN),
        (scores(80), [0.9, 0.9, 0.9], ReproductionOutcome.OUTSIDE),
    ],
)
def test_the_outcome(again: np.ndarray, seeds: list[float], outcome: ReproductionOutcome) -> None:
    found = reproduction(scores(90), again, seeds, same_weights=False)
    assert found.outcome is outcome
    assert (found.score, found.again, found.seeds) == (0.9, float(again.mean()), len(seeds))
    assert found.delta == pytest.approx(float(again.mean()) - 0.9)


def test_items_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="the same items"):
        reproduction(scores(9, 10), scores(9, 11), SEEDS, same_weights=False)
