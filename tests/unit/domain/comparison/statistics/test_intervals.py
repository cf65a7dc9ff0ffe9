"""The interval of crossed random effects: the formula, its symmetries, and the corners where a variance is zero."""

from math import inf, isfinite, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from app.domain.comparison.statistics.intervals import UNLIMITED, Scores, difference, score_interval
from app.domain.comparison.statistics.verdict import VerdictKind, judge
from app.domain.studies.alternative import Alternative


def runs(seeds: int, items: int, seed: int, right: float = 0.85) -> Scores:
    rng = np.random.default_rng(seed)
    chance = np.clip(right + 0.2 * rng.standard_normal(items) + 0.02 * rng.standard_normal((seeds, 1)), 0, 1)
    return (rng.random((seeds, items)) < chance).astype(float)


@st.composite
def pairs(draw: st.DrawFn, fewest_seeds: int = 1) -> tuple[Scores, Scores]:
    items = draw(st.integers(2, 40))
    seeds = st.integers(fewest_seeds, 5)
    return runs(draw(seeds), items, draw(st.integers(0, 10**6))), runs(draw(seeds), items, draw(st.integers(0, 10**6)))


def test_the_interval_is_the_formula() -> None:
    a, b = runs(3, 300, 1), runs(4, 300, 2)
    seen = difference(a, b)

    v_a, v_b = np.var(a.mean(1), ddof=1), np.var(b.mean(1), ddof=1)
    v_i = np.var(a.mean(0) - b.mean(0), ddof=1) / 300

    def residual(x: Scores) -> float:
        left = x - x.mean(1, keepdims=True) - x.mean(0, keepdims=True) + x.mean()
        return float((left**2).sum() / ((x.shape[0] - 1) * (x.shape[1] - 1)))

    e_a, e_b = residual(a), residual(b)
    v = v_i + v_a / 3 + v_b / 4 - e_a / (300 * 3) - e_b / (300 * 4)
    df = v**2 / (
        v_i**2 / 299
        + (v_a / 3) ** 2 / 2
        + (v_b / 4) ** 2 / 3
        + (e_a / 900) ** 2 / (2 * 299)
        + (e_b / 1200) ** 2 / (3 * 299)
    )
    assert v > v_i
    assert seen.variance == pytest.approx(v)
    assert seen.degrees_of_freedom == pytest.approx(df)
    assert seen.half_width == pytest.approx(stats.t.ppf(0.975, df) * sqrt(v))
    assert (seen.low + seen.high) / 2 == pytest.approx(a.mean() - b.mean())
    assert seen.p_value == pytest.approx(2 * stats.t.sf(abs(seen.delta) / sqrt(v), df))


def test_with_one_seed_it_is_the_paired_t_test_over_items() -> None:
    a, b = runs(1, 200, 3), runs(1, 200, 4)
    seen = difference(a, b)
    known = stats.ttest_rel(a[0], b[0])
    assert seen.one_seed
    assert seen.p_value == pytest.approx(known.pvalue)
    assert (seen.low, seen.high) == pytest.approx(tuple(known.confidence_interval()))


def test_without_item_differences_it_is_welchs_test_over_seeds() -> None:
    rng = np.random.default_rng(0)
    items = rng.standard_normal(50)
    a = items + np.array([[0.1], [0.5], [-0.2]])
    b = items + np.array([[0.0], [0.3], [0.35], [0.1]])
    seen = difference(a, b)
    known = stats.ttest_ind(a.mean(1), b.mean(1), equal_var=False)
    # What is left of v_i is the "one item off by the range" that stands for no variance.
    assert seen.item_variance == pytest.approx((np.ptp(np.concatenate([a, b])) / 50) ** 2)
    assert seen.variance - seen.item_variance == pytest.approx(((seen.delta) / known.statistic) ** 2)


@given(pairs())
def test_swapping_the_arms_turns_the_sign_and_nothing_else(pair: tuple[Scores, Scores]) -> None:
    a, b = pair
    there, back = difference(a, b), difference(b, a)
    assert there.delta == -back.delta
    assert there.half_width == pytest.approx(back.half_width, rel=1e-9)
    assert there.p_value == pytest.approx(back.p_value, rel=1e-9)


@given(pairs(), st.integers(0, 1000))
def test_the_order_of_items_and_seeds_does_not_matter(pair: tuple[Scores, Scores], order: int) -> None:
    a, b = pair
    rng = np.random.default_rng(order)
    items = rng.permutation(a.shape[1])
    shuffled = difference(rng.permutation(a)[:, items], rng.permutation(b)[:, items])
    plain = difference(a, b)
    assert shuffled.delta == pytest.approx(plain.delta, abs=1e-12)
    assert shuffled.half_width == pytest.approx(plain.half_width, rel=1e-9)


@given(pairs(), st.floats(0.01, 100), st.floats(-10, 10))
def test_the_interval_has_the_metrics_unit_and_zero(pair: tuple[Scores, Scores], scale: float, shift: float) -> None:
    a, b = pair
    if np.ptp(np.concatenate([a, b])) == 0:
        return  # all right: the unit is unknown, and taken as 1
    plain, moved = difference(a, b), difference(scale * a + shift, scale * b + shift)
    assert moved.delta == pytest.approx(scale * plain.delta, rel=1e-6, abs=1e-9)
    assert moved.half_width == pytest.approx(scale * plain.half_width, rel=1e-6)
    assert moved.degrees_of_freedom == pytest.approx(plain.degrees_of_freedom, rel=1e-4)


@given(pairs(), st.floats(0.5, 0.98), st.floats(0.001, 0.0199))
def test_more_confidence_is_a_wider_interval(pair: tuple[Scores, Scores], confidence: float, more: float) -> None:
    seen = difference(*pair, confidence)
    assert seen.at(confidence + more).half_width > seen.half_width


@given(pairs())
def test_the_variance_is_never_below_the_items_part(pair: tuple[Scores, Scores]) -> None:
    seen = difference(*pair)
    assert seen.variance >= seen.item_variance > 0
    assert seen.degrees_of_freedom >= 1
    assert isfinite(seen.half_width)


@given(pairs(), st.floats(0.5, 0.999))
def test_the_p_value_and_the_interval_agree(pair: tuple[Scores, Scores], confidence: float) -> None:
    seen = difference(*pair, confidence)
    if abs(seen.p_value - (1 - confidence)) > 1e-9:
        assert seen.excludes_zero == (seen.p_value < 1 - confidence)


@pytest.mark.parametrize("seeds", [1, 2, 5])
@pytest.mark.parametrize("items", [2, 200])
def test_identical_predictions_are_no_proof_of_equality(seeds: int, items: int) -> None:
    same = np.tile(runs(1, items, 5), (seeds, 1))
    for a, b in [(same, same), (np.ones((seeds, items)), np.ones((seeds, items)))]:
        seen = difference(a, b)
        assert seen.delta == 0
        assert seen.p_value == 1
        assert seen.half_width >= stats.t.ppf(0.975, items - 1) / items * 0.999


def test_one_item_or_other_items_give_no_interval() -> None:
    seen = difference(np.ones((3, 1)), np.zeros((2, 1)))
    assert (seen.delta, seen.limits, seen.usable, seen.p_value) == (1, (-inf, inf), False, 1)
    assert not score_interval(np.ones((3, 1))).usable
    assert difference(runs(2, 50, 1), runs(5, 50, 2)).reference_seeds == 5
    with pytest.raises(ValueError, match="the same items"):
        difference(runs(2, 50, 1), runs(2, 51, 2))


@pytest.mark.parametrize("scores", [np.ones(3), np.ones((0, 3)), np.ones((3, 0)), np.array([[1.0, np.nan]])])
def test_what_is_not_a_matrix_of_scores_is_refused(scores: Scores) -> None:
    with pytest.raises(ValueError, match="score"):
        score_interval(scores)


def test_an_estimate_covers_items_and_with_several_seeds_also_seeds() -> None:
    rng = np.random.default_rng(4)
    hits = 0
    for _ in range(2000):
        items, seeds = 0.3 * rng.standard_normal((1, 100)), 0.05 * rng.standard_normal((4, 1))
        seen = score_interval(items + seeds + 0.3 * rng.standard_normal((4, 100)), span=UNLIMITED)
        hits += seen.low < 0 < seen.high
    assert 0.93 < hits / 2000 < 0.975
    x = runs(1, 300, 6)
    seen = score_interval(x)
    known = stats.ttest_1samp(x[0], 0).confidence_interval()
    assert (seen.low, seen.high) == pytest.approx(tuple(known))
    assert seen.seeds == 1


settings.register_profile("light", max_examples=60, deadline=None)
settings.load_profile("light")


def test_an_interval_wider_than_the_scale_of_a_score_is_not_usable() -> None:
    few = np.array([[1.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    other = np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    assert not score_interval(few).usable and not difference(few, other).usable
    assert not score_interval(np.ones((3, 1))).usable
    many = np.tile(few, (1, 200))
    assert score_interval(many[:1]).usable and difference(many[:1], np.tile(other, (1, 200))[:1]).usable


@pytest.mark.parametrize("right", [1, 39])
def test_an_interval_ends_at_the_range_of_its_metric_whatever_the_verdict(right: int) -> None:
    """Near 0 and 1, with few seeds, Student's interval of a score ended at −0.158 and 1.0083."""
    near = np.zeros((3, 40))
    near[:, :right], near[0, 20] = 1, 1
    score = score_interval(near)
    assert score.usable and 0 <= score.low <= score.mean <= score.high <= 1 and (score.low, score.high) != (0, 1)
    free = score_interval(near, span=UNLIMITED)
    assert free.low < 0 or free.high > 1
    assert (score.low, score.high) == (max(free.low, 0), min(free.high, 1))
    against = difference(near, 1 - near if right == 39 else np.zeros((3, 40)))
    assert -1 <= against.low <= against.delta <= against.high <= 1


def test_clipping_decides_nothing() -> None:
    """A margin of the whole range is crossed by the interval, but not by its clipped end."""
    arm, reference = np.zeros((2, 8)), np.zeros((2, 8))
    arm[0, :7], reference[1, :3] = 1, 1
    seen = difference(arm, reference)
    assert (seen.low, seen.high) == (-1, 1) and seen.limits[0] < -1 and seen.limits[1] > 1
    verdict = judge({"reference": reference, "arm": arm}, "reference", 1.0, Alternative.EQUIVALENCE)["arm"]
    assert verdict.kind is VerdictKind.UNDECIDED
