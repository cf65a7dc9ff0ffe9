"""Verdicts over items and seeds, also where items are copies or have groups."""

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from app.domain.comparison.fairness.export_gate import ExportScores, gate
from app.domain.comparison.fairness.reproduction import reproduction
from app.domain.comparison.statistics.clusters import Clusters
from app.domain.comparison.statistics.intervals import Scores, difference, score_interval
from app.domain.comparison.statistics.verdict import (
    McNemar,
    Reason,
    VerdictKind,
    best_indistinguishable,
    holm,
    judge,
    settled_below,
    word,
)
from app.domain.data.dataset import items_hash
from app.domain.data.item_names import cluster_of, copy_name
from app.domain.studies.alternative import Alternative
from app.domain.studies.power import observed_disagreement, required_sample
from app.words.verdict.verdict import mcnemar_text

EQUIVALENCE = Alternative.EQUIVALENCE


def runs(seeds: int, items: int, right: float, seed: int, seed_sd: float = 0.003) -> Scores:
    rng = np.random.default_rng(seed)
    easy = np.random.default_rng(99).beta(4, 0.5, items) - 4 / 4.5 + right
    return (rng.random((seeds, items)) < easy + seed_sd * rng.standard_normal((seeds, 1))).astype(float)


def test_arms_are_worse_better_or_within_the_margin_in_their_order() -> None:
    arms = {"lora": runs(3, 300, 0.88, 1), "full": runs(3, 300, 0.88, 2), "head": runs(3, 300, 0.7, 3)}
    assert list(judge(arms, "full", 0.02)) == ["lora", "head"]
    arms = {"full": runs(5, 1000, 0.8, 1), "head": runs(5, 1000, 0.7, 2), "lora": runs(5, 1000, 0.88, 3)}
    verdicts = judge(arms, "full", 0.02)
    assert verdicts["head"].kind is VerdictKind.WORSE
    assert (verdicts["lora"].kind, verdicts["lora"].reason) == (VerdictKind.ENOUGH, Reason.ABOVE_ZERO)
    assert verdicts["lora"].better
    assert verdicts["head"].needs is None
    assert judge(arms, "full", 0.02, EQUIVALENCE)["lora"].kind is VerdictKind.BETTER
    arms = {"full": runs(5, 20000, 0.88, 1), "lora": runs(5, 20000, 0.88, 2)}
    assert judge(arms, "full", 0.02, EQUIVALENCE)["lora"].kind is VerdictKind.WITHIN
    assert judge(arms, "full", 0.02)["lora"].kind is VerdictKind.ENOUGH


def test_an_arm_is_enough_however_much_better_it_may_be_and_equivalent_only_within_both_margins() -> None:
    shown = {
        (-0.009, 0.03): (VerdictKind.ENOUGH, Reason.ABOVE_MARGIN, VerdictKind.UNDECIDED),
        (0.001, 0.009): (VerdictKind.ENOUGH, Reason.ABOVE_ZERO, VerdictKind.WITHIN),
        (0.001, 0.011): (VerdictKind.ENOUGH, Reason.ABOVE_ZERO, VerdictKind.BETTER),
        (-0.009, -0.001): (VerdictKind.ENOUGH, Reason.SLIGHTLY_BELOW_ZERO, VerdictKind.WITHIN),
        (-0.011, -0.001): (VerdictKind.WORSE, Reason.BELOW_ZERO, VerdictKind.WORSE),
        (-0.001, 0.011): (VerdictKind.ENOUGH, Reason.ABOVE_MARGIN, VerdictKind.UNDECIDED),
        (-0.011, 0.001): (VerdictKind.UNDECIDED, Reason.CROSSES_MARGIN, VerdictKind.UNDECIDED),
        (-0.01, 0.001): (VerdictKind.UNDECIDED, Reason.CROSSES_MARGIN, VerdictKind.WITHIN),
        (-0.2, 0.2): (VerdictKind.UNDECIDED, Reason.CROSSES_MARGIN, VerdictKind.UNDECIDED),
    }
    for (low, high), (kind, reason, two_sided) in shown.items():
        assert word(low, high, 0.01) == (kind, reason)
        assert word(low, high, 0.01, EQUIVALENCE)[0] is two_sided


def test_an_arm_that_is_merely_enough_does_not_relax_the_others_but_a_large_loss_does() -> None:
    """Its interval can still be one of a false claim that it is better, or slightly worse."""
    full, same = np.tile(runs(1, 4000, 0.88, 1), (3, 1)), runs(3, 4000, 0.88, 2)
    slightly = np.clip(full - (np.arange(4000) % 100 == 0), 0, 1)  # a loss of a point on items of its own
    verdicts = judge({"full": full, "slightly": slightly, "same": same}, "full", 0.03)
    assert verdicts["slightly"].reason is Reason.SLIGHTLY_BELOW_ZERO
    assert [v.difference.confidence for v in verdicts.values() if v.difference] == [0.975, 0.975]
    verdicts = judge({"full": full, "head": runs(3, 4000, 0.7, 3), "same": same}, "full", 0.03)
    assert [v.difference.confidence for v in verdicts.values() if v.difference] == [0.975, 0.95]


def test_undecided_says_what_would_decide() -> None:
    verdict = judge({"full": runs(5, 300, 0.88, 1), "lora": runs(5, 300, 0.88, 2)}, "full", 0.01)["lora"]
    assert verdict.kind is VerdictKind.UNDECIDED
    assert verdict.needs is not None
    assert verdict.needs.seeds is not None
    assert verdict.needs.seeds > 5


arms_by_name = st.dictionaries(
    st.sampled_from("abcde"), st.tuples(st.integers(0, 4), st.floats(0.6, 0.95), st.integers(0, 10**6)), min_size=1
)


@settings(max_examples=80, deadline=None)
@given(arms_by_name, st.floats(0.005, 0.1))
def test_the_interval_shown_alone_implies_the_word(drawn: dict[str, tuple[int, float, int]], margin: float) -> None:
    arms = {name: runs(seeds, 60, right, seed) for name, (seeds, right, seed) in drawn.items()}
    arms["full"] = runs(3, 60, 0.85, 0)
    for verdict in judge(arms, "full", margin).values():
        if verdict.difference is None:
            assert verdict.kind is VerdictKind.NONE
        elif verdict.kind is VerdictKind.HINT:
            assert verdict.difference.one_seed
            assert verdict.hint is word(verdict.difference.low, verdict.difference.high, margin)[0]
        else:
            kind, reason = word(verdict.difference.low, verdict.difference.high, margin)
            assert verdict.kind is kind
            assert verdict.reason is (Reason.ONE_SEED if verdict.difference.one_seed else reason)
        assert verdict.reason
        assert (verdict.needs is None) == (verdict.kind not in (VerdictKind.UNDECIDED, VerdictKind.HINT))


@settings(max_examples=80, deadline=None)
@given(arms_by_name, st.sampled_from(Alternative))
def test_holm_rejects_what_intervals_exclude(
    drawn: dict[str, tuple[int, float, int]], alternative: Alternative
) -> None:
    arms = {name: runs(seeds + 2, 60, right, seed) for name, (seeds, right, seed) in drawn.items()}
    arms["full"] = runs(3, 60, 0.85, 0)
    below = settled_below(0.01, alternative)
    seen = {name: v.difference for name, v in judge(arms, "full", 0.01, alternative).items() if v.difference}
    ordered = sorted(seen.values(), key=lambda d: d.p_value_outside(below))
    rejected, k = 0, len(ordered)
    while rejected < k and ordered[rejected].p_value_outside(below) < 0.05 / (k - rejected):
        rejected += 1
    assert sum(d.low > 0 or d.high < below for d in ordered) == rejected
    assert [d.confidence for d in ordered] == pytest.approx([1 - 0.05 / max(k - min(i, rejected), 1) for i in range(k)])


def test_a_single_arm_needs_no_correction_and_holm_takes_none() -> None:
    verdict = judge({"full": runs(3, 90, 0.8, 1), "lora": runs(3, 90, 0.8, 2)}, "full", 0.01)["lora"]
    assert verdict.difference is not None
    assert verdict.difference.confidence == 0.95
    assert holm({}) == {}


@pytest.mark.parametrize(("seeds", "reference_seeds"), [(1, 1), (1, 5), (5, 1)])
def test_with_one_seed_a_large_difference_is_a_hint(seeds: int, reference_seeds: int) -> None:
    arms = {"full": runs(reference_seeds, 500, 0.88, 1), "head": runs(seeds, 500, 0.6, 2)}
    verdict = judge(arms, "full", 0.02)["head"]
    assert verdict.kind is VerdictKind.HINT
    assert verdict.hint is VerdictKind.WORSE
    assert verdict.needs is not None


def test_a_one_seed_arm_does_not_loosen_the_others() -> None:
    arms = {"full": runs(3, 500, 0.88, 1), "lora": runs(3, 500, 0.88, 2), "head": runs(1, 500, 0.5, 3)}
    verdicts = judge(arms, "full", 0.02)
    assert verdicts["lora"].difference is not None
    assert verdicts["lora"].difference.confidence == 0.975


def test_too_few_runs_or_items_is_no_verdict_with_the_reason() -> None:
    some, none = runs(2, 50, 0.8, 1), np.empty((0, 50))
    assert judge({"full": some, "lora": none}, "full", 0.01)["lora"].reason is Reason.NO_RESULT
    assert judge({"full": none, "lora": some}, "full", 0.01)["lora"].reason is Reason.NO_REFERENCE_RESULT
    assert judge({"lora": some}, "full", 0.01)["lora"].reason is Reason.NO_REFERENCE_RESULT
    verdict = judge({"full": np.ones((3, 1)), "lora": np.ones((3, 1))}, "full", 0.01)["lora"]
    assert verdict.kind is VerdictKind.NONE
    assert verdict.reason is Reason.ONE_ITEM
    assert verdict.difference is None


def test_identical_predictions_are_within_a_margin_that_the_items_can_resolve_only() -> None:
    many, few = (np.tile(runs(1, items, 0.88, 1), (3, 1)) for items in (696, 50))
    assert judge({"full": many, "lora": many}, "full", 0.01)["lora"].kind is VerdictKind.ENOUGH
    assert judge({"full": many, "lora": many}, "full", 0.01, EQUIVALENCE)["lora"].kind is VerdictKind.WITHIN
    assert judge({"full": few, "lora": few}, "full", 0.01)["lora"].kind is VerdictKind.UNDECIDED


def test_all_right_against_all_wrong_is_worse_and_other_items_are_refused() -> None:
    verdict = judge({"full": np.ones((2, 30)), "lora": np.zeros((2, 30))}, "full", 0.01)["lora"]
    assert verdict.kind is VerdictKind.WORSE
    with pytest.raises(ValueError, match="the same items"):
        judge({"full": np.ones((2, 30)), "lora": np.ones((2, 31))}, "full", 0.01)
    with pytest.raises(ValueError, match="margin"):
        judge({"full": np.ones((2, 30))}, "full", 0)


def test_the_best_arms_are_those_that_cannot_be_told_from_the_best() -> None:
    arms = {"full": runs(3, 600, 0.88, 1), "head": runs(3, 600, 0.6, 2), "lora": runs(3, 600, 0.88, 3)}
    assert best_indistinguishable(arms) == ["full", "lora"]
    assert best_indistinguishable(arms | {"one": runs(1, 600, 0.3, 4)}) == ["full", "lora", "one"]
    assert best_indistinguishable(arms | {"none": np.empty((0, 600))}) == ["full", "lora"]
    assert best_indistinguishable({"full": arms["full"]}) == ["full"]
    assert best_indistinguishable({}) == []


@pytest.mark.slow
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_mcnemar_is_the_exact_binomial_test_on_the_flips(pairs: list[tuple[bool, bool]]) -> None:
    arm, reference = np.array(pairs).T
    gained, lost = int((arm & ~reference).sum()), int((~arm & reference).sum())
    known = stats.binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert McNemar.of(arm, reference).p_value == pytest.approx(known)


def test_mcnemar_wants_the_same_items() -> None:
    with pytest.raises(ValueError, match="same items"):
        McNemar.of(np.ones(3, bool), np.ones(4, bool))


RANDOM = np.random.default_rng(4)
ARM, REFERENCE = (RANDOM.random((3, 40)) < share for share in (0.7, 0.6))
ARM, REFERENCE = ARM.astype(np.float64), REFERENCE.astype(np.float64)
EACH_TWICE = Clusters(np.repeat(np.arange(40), 2))


def twice(scores: np.ndarray) -> np.ndarray:
    return np.repeat(scores, 2, axis=-1)


def test_items_that_all_differ_form_no_clusters_and_one_cluster_has_no_verdict() -> None:
    assert Clusters.of(["a", "b", "c"]) is None
    alone, plain = difference(ARM, REFERENCE, clusters=Clusters(np.arange(40))), difference(ARM, REFERENCE)
    assert alone.variance == pytest.approx(plain.variance, rel=1e-12)
    assert alone.degrees_of_freedom == pytest.approx(plain.degrees_of_freedom, rel=1e-12)
    verdicts = judge({"a": ARM, "b": REFERENCE}, "b", 0.02, clusters=Clusters(np.zeros(40, dtype=np.int64)))
    assert verdicts["a"].reason is Reason.ONE_GROUP


def test_copies_of_every_item_change_neither_interval_nor_what_is_needed() -> None:
    once, copied = difference(ARM, REFERENCE), difference(twice(ARM), twice(REFERENCE), clusters=EACH_TWICE)
    assert (copied.low, copied.high) == pytest.approx((once.low, once.high), rel=1e-9)
    assert copied.clusters == 40
    assert difference(twice(ARM), twice(REFERENCE)).item_variance < 0.6 * once.item_variance
    needs, of_copies = required_sample(once, 0.02), required_sample(copied, 0.02)
    assert of_copies.seeds == needs.seeds
    own, same = score_interval(ARM), score_interval(twice(ARM), clusters=EACH_TWICE)
    assert (same.low, same.high) == pytest.approx((own.low, own.high), rel=1e-9)
    disagreement = observed_disagreement([twice(ARM), twice(REFERENCE)], EACH_TWICE)
    assert disagreement == pytest.approx(2 * (observed_disagreement([ARM, REFERENCE]) or 0), rel=1e-9)


def test_the_best_arms_are_those_without_copies() -> None:
    arms = {"a": np.tile(ARM, 40), "b": np.tile(REFERENCE, 40)}
    clusters = Clusters(np.tile(np.arange(40), 40))
    assert best_indistinguishable(arms, clusters=clusters) == best_indistinguishable({"a": ARM, "b": REFERENCE})


def test_groups_of_some_items_break_up_no_copies() -> None:
    one, other, third = "a" * 16, "b" * 16, "c" * 16
    names = [one, f"{one}-1", other, f"{other}-1", third]

    def ids(groups: dict[str, str]) -> list[int]:
        found = Clusters.of_items(names, groups)
        assert found is not None
        return found.ids.tolist()

    assert ids({one: "u"}) == [0, 0, 1, 1, 2]
    assert ids({one: "u", f"{other}-1": "u"}) == [0, 0, 0, 0, 1]
    assert ids({one: "u", f"{one}-1": "v", other: "v"}) == [0, 0, 0, 0, 1]


def test_mcnemar_counts_clusters() -> None:
    arm, reference = ARM[0] == 1, REFERENCE[0] == 1
    once = McNemar.of(arm, reference)
    of_copies = McNemar.of(twice(arm), twice(reference), EACH_TWICE)
    assert of_copies == replace(once, clustered=True)
    assert re.match("McNemar's exact test: [0-9]+ items only LoRA gets right", mcnemar_text(once, "LoRA", "full"))
    counted = f"LoRA gets more right of {once.only_arm} groups, full of {once.only_reference}"
    assert counted in mcnemar_text(of_copies, "LoRA", "full")
    assert McNemar.of(twice(arm), twice(reference)).p_value < once.p_value


def test_the_gate_and_a_reproduction_count_clusters() -> None:
    export = ExportScores(
        loaded_with="", metric="accuracy", items_hash="", scores=twice(ARM[0]).tolist(), same=None, seconds=0
    )
    wide, narrow = (gate(twice(REFERENCE[0]).tolist(), export, 0.01, clusters) for clusters in (EACH_TWICE, None))
    assert wide.high - wide.low > 1.3 * (narrow.high - narrow.low)
    halves = [
        reproduction(twice(ARM[0]), twice(REFERENCE[0]), [0.6, 0.7], same_weights=False, clusters=clusters).half_width
        for clusters in (EACH_TWICE, None)
    ]
    assert halves[0] > 1.3 * halves[1]


def test_the_names_of_items_tell_copies_and_groups() -> None:
    item = "0123456789abcdef"
    names = [copy_name(item, before) for before in range(3)]
    assert len(set(names)) == 3
    assert {cluster_of(name) for name in names} == {item}
    assert cluster_of("user-1") == "user-1"
    assert items_hash(names) != items_hash([item] * 3)
    one, other = "0123456789abcdef", "fedcba9876543210"
    assert cluster_of(copy_name(one, 0, group=7)) == cluster_of(copy_name(other, 2, group=7)) != cluster_of(one)
    assert cluster_of("user~7") == "user~7"
