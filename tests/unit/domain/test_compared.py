"""Any runs held against each other: which are one arm, what is judged and how, and what is in the way."""

from typing import Any

import numpy as np
import pytest

from app.domain.comparison.candidates import Candidate, grouped, titles
from app.domain.comparison.confounders import OF_TERMS, TAKES, Takes, Term, What
from app.domain.comparison.runs import Compared, weigh
from app.domain.comparison.verdict import VerdictKind, judge
from app.domain.runs.status import RunStatus

HERE: dict[Term, str] = {
    "task": "sequence-classification",
    "dataset": "headlines",
    "dataset version": "5f1e",
    "base model": "tiny",
    "metric": "accuracy",
    "metric version": "1",
    "device": "NVIDIA L4",
    "precision": "bf16",
    "memory measure": "allocated",
    "steps": "100",
}


def run(run_id: int, label: str = "full", seed: int = 0, accuracy: float = 0.8, n: int = 400, **more: Any) -> Candidate:
    """A run that succeeded on items that all share."""
    hard = np.random.default_rng(0).uniform(size=n)
    order = np.argsort(0.9 * hard + 0.1 * np.random.default_rng(run_id).uniform(size=n))
    scores = np.zeros(n)
    scores[order[: round(accuracy * n)]] = 1
    usual: dict[str, Any] = {
        "method": "full" if label == "full" else "lora",
        "family": "full" if label == "full" else "lora",
        "status": RunStatus.SUCCEEDED,
        "identity": label,
        "settings": {"method.kind": label},
        "terms": HERE,
        "score": float(scores.mean()),
        "items": n,
        "items_hash": "c0ffee",
        "scores": scores,
        "costs": {"peak_bytes": 100.0 * run_id, "train_seconds": 10.0},
        "tuned": True,
    }
    return Candidate(run_id=run_id, label=label, seed=seed, **(usual | more))


def elsewhere(run_id: int, label: str, score: float, **more: Any) -> Candidate:
    """A result of 1,319 items without their scores."""
    usual: dict[str, Any] = {"scores": None, "items_hash": "", "items": 1319, "test_set": "GSM8K test", "score": score}
    return run(run_id, label, collection="others", **(usual | more))


def whats(found: Compared) -> set[What]:
    """What is in the way."""
    return {obstacle.what for obstacle in found.obstacles}


def test_runs_that_differ_by_their_seed_alone_are_one_arm_and_judged_as_in_a_study() -> None:
    runs = [run(i, "full", seed=i, accuracy=0.8 + 0.004 * i) for i in range(3)]
    runs += [run(3 + i, "LoRA r=8", seed=i, accuracy=0.7 + 0.004 * i) for i in range(3)]
    found = weigh(runs[::-1], margin_points=2.0)
    assert [(arm.title, arm.seeds, arm.is_reference) for arm in found.arms] == [
        ("LoRA r=8", 3, False), ("full", 3, True)
    ]  # fmt: skip
    scores = {arm.title: np.stack([r.scores for r in arm.runs if r.scores is not None]) for arm in found.arms}
    verdict = judge(scores, "full", 0.02)["LoRA r=8"]
    against = found.arms[0].against
    assert against is not None
    assert (against.kind, against.basis, against.difference) == (VerdictKind.WORSE, "items", verdict.difference)
    assert found.scores_comparable and found.memory_comparable and found.times_comparable
    assert found.obstacles == ()


def test_a_repeated_seed_is_no_further_seed() -> None:
    groups = grouped([run(1, seed=0), run(2, seed=1), run(3, seed=0), run(4, seed=0)])
    assert [[r.run_id for r in group] for group in groups] == [[1, 2], [3], [4]]
    assert titles(groups) == ["full, run 1", "full, run 3", "full, run 4"]


def test_arms_that_share_a_label_are_told_apart_by_what_differs() -> None:
    def tuned(run_id: int, **settings: str) -> Candidate:
        return run(run_id, "LoRA", identity=str(settings), settings=settings)

    rates = [tuned(1, **{"training.learning_rate": "0.1", "r": "8"}), tuned(2, **{"training.learning_rate": "0.2"})]
    assert titles(grouped(rates)) == ["LoRA, lr 0.1", "LoRA, lr 0.2"]
    ranks = [tuned(1, **{"method.r": "8", "a": "1"}), tuned(2, **{"method.r": "16", "a": "1"})]
    assert titles(grouped(ranks)) == ["LoRA, r 8", "LoRA, r 16"]
    assert titles(grouped([tuned(5, a="1"), run(6, "LoRA", identity="x", settings={"a": "1"})])) == [
        "LoRA, run 5", "LoRA, run 6"
    ]  # fmt: skip


def test_names_are_never_the_same_twice() -> None:
    odd = [run(1, "A, run 2", identity="1"), run(2, "A", identity="2"), run(3, "A", identity="3")]
    names = titles(grouped(odd))
    assert len(set(names)) == 3


def test_the_reference_is_full_fine_tuning_unless_another_is_named() -> None:
    runs = [run(1, "LoRA"), run(2, "full"), run(3, "full", identity="other")]
    assert weigh(runs).reference.first.run_id == 2
    assert weigh(runs, reference=1).reference.title == "LoRA"
    unscored = [run(1, "full", score=None, scores=None, status=RunStatus.FAILED), run(2, "LoRA")]
    assert weigh(unscored).reference.title == "LoRA"


@pytest.mark.parametrize(
    ("runs", "reference", "message"),
    [
        ([], None, "there are no runs"),
        ([run(1), run(1)], None, "a run is there twice"),
        ([run(1)], 2, "run 2, is not among the runs"),
    ],
)
def test_what_cannot_be_weighed_is_refused(runs: list[Candidate], reference: int | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        weigh(runs, reference=reference)


def test_there_is_no_verdict_across_different_test_items() -> None:
    found = weigh([run(1), run(2, "LoRA", items_hash="decaf")])
    [_full, lora] = found.arms
    assert lora.against is not None
    assert (lora.against.kind, lora.against.why, lora.against.difference) == (VerdictKind.NONE, What.TEST_ITEMS, None)
    assert What.TEST_ITEMS in whats(found)
    assert not found.scores_comparable


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"metric": "rouge_l"}, What.METRIC),
        ({"terms": HERE | {"metric version": "2"}}, What.METRIC_VERSION),
        ({"items_hash": "", "scores": None, "items": None}, What.NO_ITEMS),
        ({"items_hash": "", "scores": None, "test_set": "GSM8K test"}, What.TEST_ITEMS),
    ],
)
def test_nor_by_another_metric_nor_where_nobody_knows_the_items(changes: dict[str, Any], why: What) -> None:
    found = weigh([run(1), run(2, "LoRA", **changes)])
    against = found.arms[1].against
    assert against is not None
    assert (against.kind, against.why) == (VerdictKind.NONE, why)


def test_a_run_without_a_result_is_shown_and_blocks_nothing() -> None:
    lost = run(3, "DoRA", score=None, scores=None, items_hash="", status=RunStatus.FAILED, costs={})
    found = weigh([run(1), run(2, "LoRA"), lost])
    assert (found.arms[2].score, found.arms[2].costs) == (None, {})
    assert found.arms[2].against is not None and found.arms[2].against.why is None
    assert found.scores_comparable


@pytest.mark.parametrize(
    ("term", "value", "what"),
    [
        ("device", "x86", What.DEVICE),
        ("precision", "fp32", What.PRECISION),
        ("memory measure", "reserved", What.MEMORY_MEASURE),
        ("dataset", "other", What.DATASET),
        ("dataset version", "abc", What.DATASET_VERSION),
        ("base model", "other", What.BASE_MODEL),
        ("task", "causal-lm", What.TASK),
        ("torch", "2", What.LIBRARIES),
        ("steps", "50", What.BUDGET),
        ("batch", "4", What.BUDGET),
    ],
)
def test_what_differs_is_named_with_the_arms_of_each_value(term: Term, value: str, what: What) -> None:
    found = weigh([run(1), run(2, "LoRA", terms=HERE | {term: value})])
    [obstacle] = [o for o in found.obstacles if o.what is what]
    assert sorted(obstacle.arms) == ["LoRA", "full"]
    assert len(obstacle.values) == 2
    blocks = obstacle.takes is Takes.COST
    assert found.memory_comparable is not blocks
    assert found.times_comparable is (not blocks or what is What.MEMORY_MEASURE)


def test_costs_of_unknown_devices_do_not_compare() -> None:
    unknown = {name: value for name, value in HERE.items() if name != "device"}
    found = weigh([run(1, terms=unknown), run(2, "LoRA", terms=unknown)])
    assert not found.memory_comparable and not found.times_comparable


def test_times_of_runs_side_by_side_on_a_worker_do_not_compare() -> None:
    first, beside = HERE | {"worker time": "gpu-1|0.0|10.0"}, HERE | {"worker time": "gpu-1|9.0|12.0"}
    found = weigh([run(1, terms=first), run(2, "LoRA", terms=beside)])
    assert What.OVERLAP in whats(found)
    assert (found.times_comparable, found.memory_comparable) == (False, True)
    after = HERE | {"worker time": "gpu-1|10.0|12.0"}
    assert weigh([run(1, terms=first), run(2, "LoRA", terms=after)]).times_comparable


def test_untuned_rates_one_seed_and_results_from_elsewhere_are_said() -> None:
    found = weigh([run(1, seed=0), run(2, seed=1), run(3, "LoRA", tuned=False), elsewhere(4, "DoRA", 0.5)])
    told = {o.what: o.arms for o in found.obstacles}
    assert (told[What.UNTUNED], told[What.IMPORTED]) == (("LoRA",), ("DoRA",))
    assert told[What.ONE_SEED] == ("LoRA", "DoRA")


def test_a_reference_other_than_the_one_named_before_the_runs_is_said() -> None:
    runs = [run(1), run(2, "LoRA"), run(3, "DoRA")]
    assert What.REFERENCE not in whats(weigh(runs, named={1})) | whats(weigh(runs, reference=2))
    later = weigh(runs, reference=2, named={1})
    assert {o.what: o.arms for o in later.obstacles}[What.REFERENCE] == ("LoRA",)
    failed = weigh([run(1, score=None, scores=None), *runs[1:]], named={1})
    assert failed.reference.title == "LoRA" and What.REFERENCE in whats(failed)
    assert What.REFERENCE not in whats(weigh(runs[1:2], named={1}))  # alone: nothing is held against anything


def test_every_obstacle_takes_something_away_and_the_gravest_come_first() -> None:
    assert set(TAKES) == set(What)
    assert set(OF_TERMS) < set(What)
    order = [TAKES[what] for what in What]
    assert order.index(Takes.DOUBT) > max(i for i, takes in enumerate(order) if takes is Takes.VERDICT)


def test_two_results_from_elsewhere_are_judged_by_their_shares_and_that_is_a_hint_at_best() -> None:
    found = weigh([elsewhere(1, "full", 622 / 1319), elsewhere(2, "LoRA", 631 / 1319)])
    against = found.arms[1].against
    assert against is not None and against.difference is not None
    assert (against.kind, against.basis, against.difference.confidence) == (VerdictKind.UNDECIDED, "shares", 0.95)
    assert (against.difference.low, against.difference.high) == pytest.approx((-0.03122, 0.04485), abs=1e-4)
    far = weigh([elsewhere(1, "full", 0.47), elsewhere(2, "tiny", 0.01)]).arms[1].against
    assert far is not None
    assert (far.kind, far.hint) == (VerdictKind.HINT, VerdictKind.WORSE)
    unlike = weigh([elsewhere(1, "full", 0.47), elsewhere(2, "LoRA", 0.47, test_set="MATH test")]).arms[1].against
    assert unlike is not None and unlike.why is What.TEST_ITEMS


def test_holm_counts_every_arm_that_is_judged_however_it_is() -> None:
    shared = {"test_set": "T", "collection": "x"}
    known = [run(1, **shared), run(2, "LoRA", **shared)]
    bare = [run(3 + i, f"arm {i}", scores=None, items_hash="", **shared) for i in range(3)]
    found = weigh([*known, *bare])
    seen = {
        arm.title: arm.against.difference.confidence for arm in found.arms if arm.against and arm.against.difference
    }
    assert seen == pytest.approx({"LoRA": 1 - 0.05 / 4} | {f"arm {i}": 1 - 0.05 / 4 for i in range(3)})


def test_mcnemar_stands_beside_two_single_runs_on_the_same_items() -> None:
    found = weigh([run(1, accuracy=0.8), run(2, "LoRA", accuracy=0.7)])
    assert found.mcnemar is not None
    assert found.mcnemar.only_reference - found.mcnemar.only_first == 40
    assert found.mcnemar.p_value < 0.001
    assert weigh([run(1), run(2, "LoRA"), run(3, "LoRA", seed=1)]).mcnemar is None
    assert weigh([run(1), run(2, "LoRA", scores=np.full(400, 0.5))]).mcnemar is None
    assert weigh([run(1), run(2, "LoRA", items_hash="other")]).mcnemar is None


def test_an_arms_own_interval_is_of_its_items_or_absent() -> None:
    found = weigh([elsewhere(1, "full", 0.5), elsewhere(2, "LoRA", 0.5, items=None)])
    first, second = (arm.score for arm in found.arms)
    assert first is not None and second is not None
    assert (first.low, first.high) == pytest.approx((0.4731, 0.5269), abs=1e-4)
    assert (second.mean, second.low) == (0.5, None)


def test_settings_that_differ_are_told_from_those_that_are_the_same() -> None:
    found = weigh([run(1, settings={"a": "1", "b": "2"}), run(2, "LoRA", settings={"a": "1", "b": "3", "r": "8"})])
    assert found.settings == {"a": ("1", "1"), "b": ("2", "3"), "r": ("", "8")}
    assert found.differing() == {"b": ("2", "3"), "r": ("", "8")}
