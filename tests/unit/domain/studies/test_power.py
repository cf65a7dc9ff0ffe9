"""What would decide, and what a study can show before it starts."""

from dataclasses import replace

import numpy as np
import pytest

from app.domain.comparison.statistics.clusters import Clusters
from app.domain.comparison.statistics.intervals import Difference, Scores, difference
from app.domain.comparison.statistics.verdict import VerdictKind, confidence_after, word
from app.domain.data.dataset import DatasetFacts
from app.domain.studies import power
from app.domain.studies.alternative import Alternative
from app.domain.studies.plan import StudyPlan, default_margin, power_of
from app.domain.studies.power import (
    ClusterSizes,
    detectable_difference,
    observed_disagreement,
    power_of_equal_arms,
    required_sample,
)
from app.samples import samples as sample
from app.words.studies.power import groups_basis, planned_items


def runs(seeds: int, items: int, seed_sd: float, seed: int, right: float = 0.88) -> Scores:
    rng = np.random.default_rng(seed)
    easy = np.random.default_rng(99).beta(4, 0.5, items) - 4 / 4.5 + right
    chance = np.clip(easy + seed_sd * rng.standard_normal((seeds, 1)), 0, 1)
    return (rng.random((seeds, items)) < chance).astype(float)


def with_parts(seen: Difference, seeds: int, items: int) -> Difference:
    """The same difference and the same parts of variance, had there been other numbers of seeds and items."""
    parts, _ = power._parts(seen)
    e_a, e_b = parts.residual, parts.reference_residual
    rng = np.random.default_rng(0)

    def exactly(shape: tuple[int, int], sd: float, axis: int) -> Scores:
        """Numbers of mean 0 along the axis, and of this sd to the last digit."""
        x = rng.standard_normal(shape)
        x -= x.mean(axis=axis, keepdims=True)
        return np.asarray(x * sd / x.std(axis=axis, ddof=1, keepdims=True))

    def crossed(sd: float) -> Scores:
        x = rng.standard_normal((seeds, items))
        x += x.mean() - x.mean(axis=0) - x.mean(axis=1, keepdims=True)
        return np.asarray(x * sd / np.sqrt((x**2).sum() / ((seeds - 1) * (items - 1))))

    # What a sample of that size would show: item means and seed means carry their share of the residual.
    item_sd = np.sqrt(parts.item + e_a / seeds + e_b / seeds)
    a = exactly((1, items), item_sd, 1) + exactly((seeds, 1), np.sqrt(parts.seed + e_a / items), 0)
    b = exactly((seeds, 1), np.sqrt(parts.reference_seed + e_b / items), 0)
    return difference(a + crossed(np.sqrt(e_a)) + seen.delta, b + crossed(np.sqrt(e_b)), seen.confidence)


@pytest.mark.parametrize("draw", range(8))
def test_the_seeds_that_it_asks_for_decide_if_all_stays_as_seen(draw: int) -> None:
    seen = difference(runs(3, 1500, 0.012, 2 * draw), runs(3, 1500, 0.012, 2 * draw + 1, right=0.87))
    if word(seen.low, seen.high, 0.02)[0] is not VerdictKind.UNDECIDED:
        seen = replace(seen, delta=0.008)
    seeds = required_sample(seen, 0.02).seeds
    assert seeds is not None
    assert seeds > 3
    then, before = (with_parts(seen, n, 1500).at(confidence_after(1)) for n in (seeds, seeds - 1))
    assert word(then.low, then.high, 0.02)[0] is not VerdictKind.UNDECIDED
    assert word(before.low, before.high, 0.02)[0] is VerdictKind.UNDECIDED or seeds == 4


def test_the_items_that_it_asks_for_decide_if_all_stays_as_seen() -> None:
    seen = replace(difference(runs(5, 200, 0.002, 1), runs(5, 200, 0.002, 2)), delta=0.004)
    assert word(seen.low, seen.high, 0.02)[0] is VerdictKind.UNDECIDED
    items = required_sample(seen, 0.02).items
    assert items is not None
    then, before = with_parts(seen, 5, items), with_parts(seen, 5, int(items * 0.95))
    assert word(then.low, then.high, 0.02)[0] is not VerdictKind.UNDECIDED
    assert word(before.low, before.high, 0.02)[0] is VerdictKind.UNDECIDED


def test_where_neither_decides_alone_both_together_may() -> None:
    seen = replace(difference(runs(3, 646, 0.01, 1), runs(3, 646, 0.01, 2)), delta=0.005)
    equal = Alternative.EQUIVALENCE
    asked = required_sample(seen, 0.01, equal)
    assert (asked.seeds, asked.items) == (None, None)
    assert asked.both is not None
    seeds, items = asked.both
    then, less = with_parts(seen, seeds, items), with_parts(seen, seeds, int(items * 0.9))
    assert word(then.low, then.high, 0.01, equal)[0] is not VerdictKind.UNDECIDED
    assert word(less.low, less.high, 0.01, equal)[0] is VerdictKind.UNDECIDED
    assert required_sample(replace(seen, delta=0.0001), 0.0002).both is None
    assert required_sample(seen, 0.01).seeds == 17, "a gain is no obstacle to being enough"


def test_neither_items_nor_seeds_decide_what_the_other_leaves_open() -> None:
    seen = replace(difference(runs(2, 500, 0.04, 1), runs(2, 500, 0.04, 2)), delta=0.01)
    assert required_sample(seen, 0.02).items is None
    a = np.random.default_rng(1).integers(0, 2, 100).astype(float)
    seen = difference(np.tile(a, (3, 1)), np.tile(a[::-1], (3, 1)))
    assert required_sample(replace(seen, delta=0.005), 0.01).seeds is None


def test_a_single_seed_asks_for_two_at_least_and_says_that_it_assumes() -> None:
    seen = replace(difference(runs(1, 5000, 0.003, 1), runs(1, 5000, 0.003, 2)), delta=0.05)
    asked = required_sample(seen, 0.01)
    assert asked.seeds is not None
    assert asked.seeds >= 2
    assert asked.items is None
    assert asked.assumed
    assert not required_sample(difference(runs(3, 90, 0.003, 1), runs(1, 90, 0.003, 2)), 0.01).assumed


def test_a_plan_for_three_and_five_seeds_on_646_items() -> None:
    assert detectable_difference(646, 3, 0.89) == pytest.approx(0.018, abs=0.0015)
    assert detectable_difference(646, 5, 0.89) == pytest.approx(0.015, abs=0.001)


def test_a_plan_shows_more_with_more_seeds_and_items_and_less_with_more_chance() -> None:
    plan = detectable_difference(646, 3, 0.89)
    assert detectable_difference(646, 4, 0.89) < plan
    assert detectable_difference(2000, 3, 0.89) < plan
    assert detectable_difference(646, 3, 0.7) > plan
    assert detectable_difference(646, 3, 0.89, seed_sd=0.02) > plan
    assert detectable_difference(646, 3, 0.89, disagreement=0.2) > plan
    assert detectable_difference(646, 3, 0.89, confidence=0.99) > plan


@pytest.mark.parametrize("score", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("seeds", [1, 2, 100])
def test_a_plan_is_a_number_at_the_corners(seeds: int, score: float) -> None:
    assert detectable_difference(2, seeds, score) > 0
    assert 0 < detectable_difference(10**6, seeds, score) < 0.1


@pytest.mark.parametrize(("items", "seeds", "score"), [(1, 3, 0.9), (100, 0, 0.9), (100, 3, 89)])
def test_a_plan_without_a_study_is_refused(items: int, seeds: int, score: float) -> None:
    with pytest.raises(ValueError, match="a plan needs"):
        detectable_difference(items, seeds, score)


def test_values_between_right_and_wrong_are_assumed_to_vary_less() -> None:
    assert detectable_difference(646, 3, 0.5, graded=True) < detectable_difference(646, 3, 0.5)
    seen = {"graded": True, "disagreement": 0.05}
    assert detectable_difference(646, 3, 0.5, **seen) == detectable_difference(646, 3, 0.5, disagreement=0.05)


def test_disagreement_is_the_share_of_items_on_which_equal_runs_differ() -> None:
    a = np.zeros((1, 1000))
    b = a.copy()
    a[0, :30], b[0, 30:60] = 1, 1
    assert observed_disagreement([a, b]) == pytest.approx(0.06, rel=0.01)
    assert observed_disagreement([np.tile(a, (3, 1)), b]) == pytest.approx(0.06, rel=0.01)
    assert observed_disagreement([a / 2, b / 2]) == pytest.approx(0.015, rel=0.01)
    a = np.linspace(0, 0.9, 500)[None, :]
    assert observed_disagreement([a, a + 0.1]) == pytest.approx(0.0, abs=1e-12)
    assert observed_disagreement([np.ones((3, 10))]) is None
    assert observed_disagreement([np.ones((3, 10)), np.ones((0, 10))]) is None


@pytest.mark.parametrize("alternative", Alternative)
@pytest.mark.parametrize(("margin", "comparisons"), [(0.03, 1), (0.04, 1), (0.04, 3)])
def test_the_power_is_the_share_of_simulated_studies(margin: float, comparisons: int, alternative: Alternative) -> None:
    items, seeds, score, studies = 200, 4, 0.89, 500
    disagree = power.DISAGREEMENT * (1 - score)
    residual, lasting = (1 - power.LASTING) * disagree / 2, power.LASTING * disagree
    rng = np.random.default_rng(7)

    def arm() -> Scores:
        seed = power.SEED_SD * rng.standard_normal((seeds, 1))
        return np.asarray(seed + np.sqrt(residual) * rng.standard_normal((seeds, items)))

    def good_enough() -> bool:
        a = arm() + np.sqrt(lasting) * rng.standard_normal(items)
        seen = difference(a, arm(), 1 - 0.05 / comparisons)
        return word(seen.low, seen.high, margin, alternative)[0] in (VerdictKind.ENOUGH, VerdictKind.WITHIN)

    share = sum(good_enough() for _ in range(studies)) / studies
    planned = power_of_equal_arms(items, seeds, score, margin, alternative, comparisons=comparisons)
    assert planned == pytest.approx(share, abs=0.05)
    assert 0.1 < planned < 0.97, "a case that tells formulas apart"


@pytest.mark.parametrize("seeds", [1, 2, 3, 5])
def test_copies_of_test_items_add_nothing_to_a_plan(seeds: int) -> None:
    copied = {"clusters": ClusterSizes(4, 4)}
    assert detectable_difference(800, seeds, 0.89, **copied) == detectable_difference(200, seeds, 0.89)
    assert power_of_equal_arms(800, seeds, 0.89, 0.03, **copied) == power_of_equal_arms(200, seeds, 0.89, 0.03)
    alone = {"clusters": ClusterSizes()}
    assert detectable_difference(646, seeds, 0.89, **alone) == detectable_difference(646, seeds, 0.89)


def test_a_group_tells_more_than_one_item_and_less_than_as_many() -> None:
    grouped = ClusterSizes(group=5)
    assert grouped.design_effect == 3
    wider = detectable_difference(600, 3, 0.89, clusters=grouped)
    assert detectable_difference(600, 3, 0.89) < wider < detectable_difference(120, 3, 0.89)
    seen = {"disagreement": 0.05}
    barely_wider = detectable_difference(600, 3, 0.89, clusters=grouped, **seen)
    assert 1 < barely_wider / detectable_difference(600, 3, 0.89, **seen) < 1.01, (
        "an observed one has the effect already"
    )


@pytest.mark.parametrize("group", [1, 5, 20])
def test_a_plan_without_disagreement_has_the_floor_of_the_interval(group: int) -> None:
    right, clusters = np.ones((1, 600)), Clusters(np.arange(600) // group)
    planned = detectable_difference(600, 1, 1.0, clusters=ClusterSizes(group, group))
    assert planned == pytest.approx(difference(right, right, clusters=clusters).half_width)


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_single_group_decides_nothing(seeds: int) -> None:
    assert detectable_difference(646, seeds, 0.89, clusters=ClusterSizes(646)) == 1
    assert power_of_equal_arms(646, seeds, 0.89, 0.02, clusters=ClusterSizes(646)) == 0
    assert detectable_difference(4, seeds, 0.5, clusters=ClusterSizes(2)) <= 1


def test_the_power_with_groups_is_that_of_simulated_studies() -> None:
    groups, each, seeds, margin, studies = 60, 5, 4, 0.04, 400
    disagree = power.DISAGREEMENT * (1 - 0.89)
    residual, lasting = (1 - power.LASTING) * disagree / 2, power.LASTING * disagree
    clusters = Clusters(np.repeat(np.arange(groups), each))
    rng = np.random.default_rng(3)

    def grouped(rows: int) -> Scores:
        own, common = rng.standard_normal((rows, groups * each)), rng.standard_normal((rows, groups))
        share = power.GROUPED
        return np.asarray(np.sqrt(1 - share) * own + np.sqrt(share) * np.repeat(common, each, axis=1))

    def arm() -> Scores:
        return np.asarray(power.SEED_SD * rng.standard_normal((seeds, 1)) + np.sqrt(residual) * grouped(seeds))

    def enough() -> bool:
        seen = difference(arm() + np.sqrt(lasting) * grouped(1), arm(), clusters=clusters)
        return seen.low > -margin

    share = sum(enough() for _ in range(studies)) / studies
    planned = power_of_equal_arms(groups * each, seeds, 0.89, margin, clusters=ClusterSizes(each))
    assert planned == pytest.approx(share, abs=0.06)
    assert 0.4 < planned < 0.9


def test_a_plan_on_groups_has_a_wider_margin_and_needs_more_items() -> None:
    spec = sample.study()
    prior = power.MetricPrior(metric="accuracy", graded=False, score=0.89)
    facts = DatasetFacts(
        counts={"train": 1, "validation": 0, "test": 646}, test_clusters=65, test_cluster_size=10.0, content_hash=""
    )
    alone = facts.model_copy(update={"test_clusters": 646, "test_cluster_size": 1.0})
    old = facts.model_copy(update={"test_clusters": None, "test_cluster_size": None})
    assert default_margin(spec, facts, prior) > default_margin(spec, alone, prior) == default_margin(spec, old, prior)
    plans = [power_of(spec.model_copy(update={"margin_points": 1.0}), one, prior, 0.95) for one in (facts, alone, old)]
    assert [plan.clusters for plan in plans] == [65, None, None]
    assert plans[0].detectable_difference > plans[1].detectable_difference == plans[2].detectable_difference
    assert (plans[0].enough_items or 0) > 4 * (plans[1].enough_items or 0) > 0
    planned = StudyPlan(spec=spec, arms=(), power=plans[0])
    assert planned_items(planned) == "646 test items in 65 groups"
    assert "a correlation of 0.5 between the other items of a group" in groups_basis(plans[0])
    assert groups_basis(plans[1]) == ""


def test_a_half_width_as_wide_as_the_margin_gives_half_the_power_of_enough_and_little_of_within() -> None:
    half_width = detectable_difference(646, 4, 0.89)
    assert power_of_equal_arms(646, 4, 0.89, half_width) == pytest.approx(0.5, abs=0.04)
    assert power_of_equal_arms(646, 4, 0.89, half_width, Alternative.EQUIVALENCE) < 0.1
    assert power_of_equal_arms(646, 4, 0.89, 4 * half_width, Alternative.EQUIVALENCE) > 0.999
    assert power_of_equal_arms(646, 4, 0.89, 0.2 * half_width, Alternative.EQUIVALENCE) == 0
    powers = [power_of_equal_arms(items, seeds, 0.89, 0.02) for items, seeds in ((646, 4), (646, 8), (2000, 8))]
    assert powers == sorted(powers)


def test_one_seed_has_the_power_of_the_items_alone_and_a_plan_without_items_none() -> None:
    assert power_of_equal_arms(2000, 1, 0.89, 0.02) > power_of_equal_arms(2000, 2, 0.89, 0.02)
    with pytest.raises(ValueError, match="two items"):
        power_of_equal_arms(1, 3, 0.89, 0.02)


def test_the_power_of_the_sample_studies_is_what_the_docs_say() -> None:
    headlines, margin = sample.study(), sample.study().margin_points / 100
    seeds = len(headlines.seeds)
    powers = [power_of_equal_arms(646, seeds, 0.89, margin, comparisons=comparisons) for comparisons in (3, 1)]
    assert powers == pytest.approx([0.50, 0.69], abs=0.005)
    language = sample.language_study()
    plan = (sample.TITLES_TEST, len(language.seeds))
    powers = [power_of_equal_arms(*plan, score, language.margin_points / 100, graded=True) for score in (0.35, 0.22)]
    assert powers == pytest.approx([0.65, 0.57], abs=0.005)
