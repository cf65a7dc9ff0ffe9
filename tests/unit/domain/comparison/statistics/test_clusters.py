"""Clusters of test items: copies are no evidence, and items that all differ give the usual numbers."""

import re
from dataclasses import replace

import numpy as np
import pytest

from app.domain.comparison.fairness.export_gate import ExportScores, gate
from app.domain.comparison.fairness.reproduction import reproduction
from app.domain.comparison.statistics.clusters import Clusters
from app.domain.comparison.statistics.intervals import difference, score_interval
from app.domain.comparison.statistics.verdict import McNemar, Reason, best_indistinguishable, judge
from app.domain.data.dataset import items_hash
from app.domain.data.item_names import cluster_of, copy_name
from app.domain.studies.power import observed_disagreement, required_sample
from app.words.verdict.verdict import mcnemar_text

RANDOM = np.random.default_rng(4)
ARM, REFERENCE = (RANDOM.random((3, 40)) < share for share in (0.7, 0.6))
ARM, REFERENCE = ARM.astype(np.float64), REFERENCE.astype(np.float64)
EACH_TWICE = Clusters(np.repeat(np.arange(40), 2))


def twice(scores: np.ndarray) -> np.ndarray:
    return np.repeat(scores, 2, axis=-1)


def test_items_that_all_differ_form_no_clusters_and_give_the_usual_numbers() -> None:
    assert Clusters.of(["a", "b", "c"]) is None
    alone, plain = difference(ARM, REFERENCE, clusters=Clusters(np.arange(40))), difference(ARM, REFERENCE)
    assert alone.variance == pytest.approx(plain.variance, rel=1e-12)
    assert alone.degrees_of_freedom == pytest.approx(plain.degrees_of_freedom, rel=1e-12)


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


def test_one_cluster_has_no_verdict() -> None:
    verdicts = judge({"a": ARM, "b": REFERENCE}, "b", 0.02, clusters=Clusters(np.zeros(40, dtype=np.int64)))
    assert verdicts["a"].reason is Reason.ONE_GROUP


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


def test_the_names_of_copies_say_what_they_are_copies_of() -> None:
    item = "0123456789abcdef"
    names = [copy_name(item, before) for before in range(3)]
    assert len(set(names)) == 3
    assert {cluster_of(name) for name in names} == {item}
    assert cluster_of("user-1") == "user-1"
    assert items_hash(names) != items_hash([item] * 3)


def test_the_names_of_items_tell_their_groups() -> None:
    one, other = "0123456789abcdef", "fedcba9876543210"
    assert cluster_of(copy_name(one, 0, group=7)) == cluster_of(copy_name(other, 2, group=7)) != cluster_of(one)
    assert cluster_of("user~7") == "user~7"
