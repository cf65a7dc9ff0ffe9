"""A/A studies: no arm can be better, and the interval is that of a comparison."""

import numpy as np
import pytest

from app.domain.comparison.statistics.intervals import difference
from app.features.lab.rules import null_studies as drawing
from app.features.lab.rules.null_studies import null_studies, sizes


def scores(disagreement: float = 0.1, seeds: int = 3, items: int = 300) -> np.ndarray:
    """[S, N] of seeds that differ in a share of the items; the last is right more often than the others."""
    random = np.random.default_rng(0)
    first = (random.random(items) < 0.8).astype(float)
    rows = [np.where(random.random(items) < disagreement, 1 - first, first) for _ in range(seeds - 1)]
    return np.stack([*rows, np.ones(items)])


def test_the_interval_is_that_of_a_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs: list[tuple[np.ndarray, np.ndarray]] = []
    monkeypatch.setattr(drawing, "value_range", lambda a, b: pairs.append((a, b)) or 1.0)
    drawn = null_studies(scores(0.05), 20, seed=3, studies=200)
    assert len(pairs) == 200 and 0 < drawn.excluded < 1
    monkeypatch.undo()
    random = np.random.default_rng([3, 20])  # the draws once more, up to the coins
    shape = (200, 20)
    random.integers(3, size=(200, 1)), random.integers(1, 3, size=(200, 1)), random.integers(300, size=shape)
    coins = random.choice([-1.0, 1.0], size=shape)
    for (one, other), coin, lead, excludes in zip(pairs, coins, drawn.leads, drawn.excludes, strict=True):
        a, b = np.where(coin > 0, one, other), np.where(coin > 0, other, one)
        expected = difference(a[None], b[None])
        assert lead == pytest.approx(expected.delta) and excludes == expected.excludes_zero


def test_neither_arm_leads_even_if_one_seed_is_better() -> None:
    drawn = null_studies(scores(0.3), 100, seed=1, studies=4000)
    error = drawn.leads.std() / np.sqrt(len(drawn.leads))
    assert abs(drawn.leads.mean()) < 4 * error
    assert 0.03 < drawn.excluded < 0.07


def test_copies_are_tossed_for_one_by_one_so_the_interval_keeps_its_error() -> None:
    drawn = null_studies(np.repeat(scores(0.3), 8, axis=1), 200, seed=1, studies=4000)
    assert 0.03 < drawn.excluded < 0.07


def test_more_items_make_leads_smaller_and_keep_the_error_of_the_interval() -> None:
    few, many = (null_studies(scores(), items, seed=1) for items in (50, 1000))
    assert few.leading > 0.6 > 0.4 > many.leading
    assert few.width > 3 * many.width
    assert many.winners > 0.9 > 0.08 > many.excluded


def test_a_seed_draws_the_same_and_chunks_draw_all(monkeypatch: pytest.MonkeyPatch) -> None:
    first, again, other = (null_studies(scores(), 50, seed) for seed in (1, 1, 2))
    assert (first.leads == again.leads).all() and (first.leads != other.leads).any()
    monkeypatch.setattr(drawing, "CHUNK", 50 * 7)
    assert len(null_studies(scores(), 50, 1, studies=100).leads) == 100


def test_seeds_that_agree_never_lead() -> None:
    drawn = null_studies(np.ones((2, 80)), 80, seed=1)
    assert (drawn.winners, drawn.leading, drawn.excluded, drawn.width) == (0, 0, 0, 0)


def test_sizes_end_with_all_items() -> None:
    assert sizes(646) == (50, 100, 200, 646)
    assert sizes(100) == (50, 100)
    assert sizes(30) == (30,)
    assert sizes(1_000_000)[-1] == drawing.MOST_ITEMS


def test_one_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="two seeds"):
        null_studies(np.ones((1, 80)), 50, seed=1)
