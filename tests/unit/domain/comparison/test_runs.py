"""Any runs compared, and the items on which two arms differ."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from app.domain.comparison.costs.costs import ArmCosts
from app.domain.comparison.fairness.confounders import CONDITIONS, EFFECTS, ConditionName, ConfounderKind, Effect
from app.domain.comparison.flips import FlipKind, Flips, bands, quarter_edges, quarters
from app.domain.comparison.grouping import ComparedRun, arm_titles, group_by_seed
from app.domain.comparison.model import RunOutcome
from app.domain.comparison.runs import RunComparison, compare_runs
from app.domain.comparison.statistics.clusters import Clusters
from app.domain.comparison.statistics.intervals import score_interval
from app.domain.comparison.statistics.verdict import Basis, McNemar, Reason, VerdictKind, judge
from app.domain.comparison.study import StudyComparison, compare
from app.domain.methods import FullSpec, HeadOnlySpec, LoraSpec
from app.domain.runs.result import RunResult
from app.domain.runs.status import RunStatus
from app.domain.studies.arms import ArmSpec
from app.domain.studies.spec import StudySpec
from tests.support.rows.results import result

HERE: dict[ConditionName, str] = {
    "task": "sequence-classification",
    "dataset": "headlines",
    "dataset_version": "5f1e",
    "base_model": "tiny",
    "metric": "accuracy",
    "metric_version": "1",
    "device": "NVIDIA L4",
    "precision": "bf16",
    "memory_measure": "allocated",
    "steps": "100",
}


def run(
    run_id: int, label: str = "full", seed: int = 0, accuracy: float = 0.8, n: int = 400, **more: Any
) -> ComparedRun:
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
        "conditions": HERE,
        "score": float(scores.mean()),
        "items": n,
        "items_hash": "c0ffee",
        "scores": scores,
        "costs": {"peak_bytes": 100.0 * run_id, "train_seconds": 10.0},
        "tuned": True,
    }
    return ComparedRun(run_id=run_id, arm=label, seed=seed, **(usual | more))


def elsewhere(run_id: int, label: str, score: float, **more: Any) -> ComparedRun:
    """A result of 1,319 items without their scores."""
    usual: dict[str, Any] = {"scores": None, "items_hash": "", "items": 1319, "test_set": "GSM8K test", "score": score}
    return run(run_id, label, collection="others", **(usual | more))


def span(begin: int, end: int) -> dict[str, Any]:
    """When a run was at work, in seconds, on a worker that all share."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    return {
        "worker": "gpu-1", "started_at": start + timedelta(seconds=begin), "finished_at": start + timedelta(seconds=end)
    }  # fmt: skip


def whats(found: RunComparison) -> set[ConfounderKind]:
    """What is in the way."""
    return {confounder.kind for confounder in found.confounders}


def test_runs_that_differ_by_their_seed_alone_are_one_arm_and_judged_as_in_a_study() -> None:
    runs = [run(i, "full", seed=i, accuracy=0.8 + 0.004 * i) for i in range(3)]
    runs += [run(3 + i, "LoRA r=8", seed=i, accuracy=0.7 + 0.004 * i) for i in range(3)]
    found = compare_runs(runs[::-1], margin_points=2.0)
    assert [(arm.title, len(arm.scored), arm.is_reference) for arm in found.arms] == [
        ("LoRA r=8", 3, False), ("full", 3, True)
    ]  # fmt: skip
    scores = {arm.title: np.stack([r.scores for r in arm.runs if r.scores is not None]) for arm in found.arms}
    verdict = judge(scores, "full", 0.02)["LoRA r=8"]
    against = found.arms[0].verdict
    assert against is not None
    assert (against.kind, against.basis, against.difference) == (VerdictKind.WORSE, Basis.ITEMS, verdict.difference)
    assert found.scores_comparable and found.memory_comparable and found.times_comparable
    assert found.confounders == ()


def test_all_intervals_of_a_comparison_use_the_same_clusters() -> None:
    few, many = Clusters(np.arange(400) // 20), Clusters(np.arange(400) // 2)
    for groups in ((None, few), (few, None), (many, few), (few, many)):
        full, lora = (
            run(place, title, clusters=own)
            for place, (title, own) in enumerate(zip(("full", "LoRA"), groups, strict=True))
        )
        found = compare_runs([full, lora])
        assert full.scores is not None and lora.scores is not None
        assert found.mcnemar == McNemar.of(lora.scores == 1, full.scores == 1, few)
        assert [arm.score for arm in found.arms] == [
            score_interval(own.scores[None], clusters=few) for own in (full, lora) if own.scores is not None
        ]
        assert found.clusters == 20
    assert compare_runs([run(0, "full"), run(1, "LoRA")]).clusters is None


def test_repeated_seeds_count_once_and_labels_are_unique() -> None:
    groups = group_by_seed([run(1, seed=0), run(2, seed=1), run(3, seed=0), run(4, seed=0)])
    assert [[r.run_id for r in group] for group in groups] == [[1, 2], [3], [4]]
    assert arm_titles(groups) == ["full, run 1", "full, run 3", "full, run 4"]
    odd = [run(1, "A, run 2", identity="1"), run(2, "A", identity="2"), run(3, "A", identity="3")]
    names = arm_titles(group_by_seed(odd))
    assert len(set(names)) == 3


def test_arms_that_share_a_label_are_told_apart_by_what_differs() -> None:
    def tuned(run_id: int, **settings: str) -> ComparedRun:
        return run(run_id, "LoRA", identity=str(settings), settings=settings)

    rates = [tuned(1, **{"training.learning_rate": "0.1", "r": "8"}), tuned(2, **{"training.learning_rate": "0.2"})]
    assert arm_titles(group_by_seed(rates)) == ["LoRA, lr 0.1", "LoRA, lr 0.2"]
    ranks = [tuned(1, **{"method.r": "8", "a": "1"}), tuned(2, **{"method.r": "16", "a": "1"})]
    assert arm_titles(group_by_seed(ranks)) == ["LoRA, r 8", "LoRA, r 16"]
    assert arm_titles(group_by_seed([tuned(5, a="1"), run(6, "LoRA", identity="x", settings={"a": "1"})])) == [
        "LoRA, run 5", "LoRA, run 6"
    ]  # fmt: skip


def test_the_reference_is_full_fine_tuning_unless_named_and_a_run_without_a_result_blocks_nothing() -> None:
    runs = [run(1, "LoRA"), run(2, "full"), run(3, "full", identity="other")]
    assert compare_runs(runs).reference.first.run_id == 2
    assert compare_runs(runs, reference=1).reference.title == "LoRA"
    unscored = [run(1, "full", score=None, scores=None, status=RunStatus.FAILED), run(2, "LoRA")]
    assert compare_runs(unscored).reference.title == "LoRA"
    lost = run(3, "DoRA", score=None, scores=None, items_hash="", status=RunStatus.FAILED, costs={})
    found = compare_runs([run(1), run(2, "LoRA"), lost])
    assert found.arms[2].score is None and found.arms[2].costs == ArmCosts(None, None, None, None)
    assert found.arms[2].verdict is not None and found.arms[2].verdict.reason is Reason.NO_RESULT
    assert found.scores_comparable


@pytest.mark.parametrize(
    ("runs", "reference", "message"),
    [
        ([], None, "there are no runs"),
        ([run(1), run(1)], None, "a run occurs twice"),
        ([run(1)], 2, "run 2, is not among the runs"),
    ],
)
def test_what_cannot_be_weighed_is_refused(runs: list[ComparedRun], reference: int | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compare_runs(runs, reference=reference)


def test_there_is_no_verdict_across_different_test_items() -> None:
    found = compare_runs([run(1), run(2, "LoRA", items_hash="decaf")])
    [_full, lora] = found.arms
    assert lora.verdict is not None
    assert (lora.verdict.kind, lora.verdict.confounder, lora.verdict.difference) == (
        VerdictKind.NONE,
        ConfounderKind.TEST_ITEMS,
        None,
    )
    assert ConfounderKind.TEST_ITEMS in whats(found)
    assert not found.scores_comparable


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"metric": "rouge_l"}, ConfounderKind.METRIC),
        ({"conditions": HERE | {"metric_version": "2"}}, ConfounderKind.METRIC_VERSION),
        ({"items_hash": "", "scores": None, "items": None}, ConfounderKind.NO_ITEMS),
        ({"items_hash": "", "scores": None, "test_set": "GSM8K test"}, ConfounderKind.TEST_ITEMS),
    ],
)
def test_nor_by_another_metric_nor_where_nobody_knows_the_items(changes: dict[str, Any], why: ConfounderKind) -> None:
    found = compare_runs([run(1), run(2, "LoRA", **changes)])
    against = found.arms[1].verdict
    assert against is not None
    assert (against.kind, against.confounder) == (VerdictKind.NONE, why)


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("device", "x86", ConfounderKind.DEVICE),
        ("precision", "fp32", ConfounderKind.PRECISION),
        ("memory_measure", "reserved", ConfounderKind.MEMORY_MEASURE),
        ("dataset", "other", ConfounderKind.DATASET),
        ("dataset_version", "abc", ConfounderKind.DATASET_VERSION),
        ("base_model", "other", ConfounderKind.BASE_MODEL),
        ("task", "causal-lm", ConfounderKind.TASK),
        ("torch", "2", ConfounderKind.LIBRARIES),
        ("steps", "50", ConfounderKind.BUDGET),
        ("batch", "4", ConfounderKind.BATCH_SIZE),
    ],
)
def test_what_differs_is_named_with_its_arms(name: ConditionName, value: str, what: ConfounderKind) -> None:
    found = compare_runs([run(1), run(2, "LoRA", conditions=HERE | {name: value})])
    [confounder] = [o for o in found.confounders if o.kind is what]
    assert sorted(confounder.arms) == ["LoRA", "full"]
    assert len(confounder.values) == 2
    blocks = confounder.effect is Effect.COST
    assert found.memory_comparable is not blocks
    assert found.times_comparable is (not blocks or what is ConfounderKind.MEMORY_MEASURE)


def test_costs_of_unknown_devices_and_times_of_overlapping_runs_do_not_compare() -> None:
    unknown = {name: value for name, value in HERE.items() if name != "device"}
    found = compare_runs([run(1, conditions=unknown), run(2, "LoRA", conditions=unknown)])
    assert not found.memory_comparable and not found.times_comparable
    first = span(0, 10)
    found = compare_runs([run(1, **first), run(2, "LoRA", **span(9, 12))])
    assert ConfounderKind.OVERLAP in whats(found)
    assert (found.times_comparable, found.memory_comparable) == (False, True)
    assert compare_runs([run(1, **first), run(2, "LoRA", **span(10, 12))]).times_comparable


def test_untuned_rates_one_seed_and_results_from_elsewhere_are_said() -> None:
    found = compare_runs([run(1, seed=0), run(2, seed=1), run(3, "LoRA", tuned=False), elsewhere(4, "DoRA", 0.5)])
    told = {o.kind: o.arms for o in found.confounders}
    assert (told[ConfounderKind.UNTUNED], told[ConfounderKind.IMPORTED]) == (("LoRA",), ("DoRA",))
    assert told[ConfounderKind.ONE_SEED] == ("LoRA", "DoRA")


def test_a_reference_other_than_the_one_named_before_the_runs_is_said() -> None:
    runs = [run(1), run(2, "LoRA"), run(3, "DoRA")]
    assert ConfounderKind.REFERENCE not in whats(compare_runs(runs, predeclared={1})) | whats(
        compare_runs(runs, reference=2)
    )
    later = compare_runs(runs, reference=2, predeclared={1})
    assert {o.kind: o.arms for o in later.confounders}[ConfounderKind.REFERENCE] == ("LoRA",)
    failed = compare_runs([run(1, score=None, scores=None), *runs[1:]], predeclared={1})
    assert failed.reference.title == "LoRA" and ConfounderKind.REFERENCE in whats(failed)
    assert ConfounderKind.REFERENCE not in whats(
        compare_runs(runs[1:2], predeclared={1})
    )  # alone: nothing is held against anything


def test_every_confounder_takes_something_away_and_the_gravest_come_first() -> None:
    assert set(EFFECTS) == set(ConfounderKind)
    assert set(CONDITIONS) < set(ConfounderKind)
    order = [EFFECTS[kind] for kind in ConfounderKind]
    assert order.index(Effect.DOUBT) > max(i for i, takes in enumerate(order) if takes is Effect.VERDICT)


def test_two_results_from_elsewhere_are_judged_by_their_shares_and_that_is_a_hint_at_best() -> None:
    found = compare_runs([elsewhere(1, "full", 622 / 1319), elsewhere(2, "LoRA", 631 / 1319)])
    against = found.arms[1].verdict
    assert against is not None and against.difference is not None
    assert (against.kind, against.basis, against.difference.confidence) == (VerdictKind.UNDECIDED, Basis.SHARES, 0.95)
    assert (against.difference.low, against.difference.high) == pytest.approx((-0.03122, 0.04485), abs=1e-4)
    far = compare_runs([elsewhere(1, "full", 0.47), elsewhere(2, "tiny", 0.01)]).arms[1].verdict
    assert far is not None
    assert (far.kind, far.hint) == (VerdictKind.HINT, VerdictKind.WORSE)
    unlike = (
        compare_runs([elsewhere(1, "full", 0.47), elsewhere(2, "LoRA", 0.47, test_set="MATH test")]).arms[1].verdict
    )
    assert unlike is not None and unlike.confounder is ConfounderKind.TEST_ITEMS


def test_holm_counts_every_arm_that_is_judged_however_it_is() -> None:
    shared = {"test_set": "T", "collection": "x"}
    known = [run(1, **shared), run(2, "LoRA", **shared)]
    bare = [run(3 + i, f"arm {i}", scores=None, items_hash="", **shared) for i in range(3)]
    found = compare_runs([*known, *bare])
    seen = {
        arm.title: arm.verdict.difference.confidence for arm in found.arms if arm.verdict and arm.verdict.difference
    }
    assert seen == pytest.approx({"LoRA": 1 - 0.05 / 4} | {f"arm {i}": 1 - 0.05 / 4 for i in range(3)})


def test_mcnemar_stands_beside_two_single_runs_on_the_same_items() -> None:
    found = compare_runs([run(1, accuracy=0.8), run(2, "LoRA", accuracy=0.7)])
    assert found.mcnemar is not None
    assert found.mcnemar.only_reference - found.mcnemar.only_arm == 40
    assert found.mcnemar.p_value < 0.001
    assert compare_runs([run(1), run(2, "LoRA"), run(3, "LoRA", seed=1)]).mcnemar is None
    assert compare_runs([run(1), run(2, "LoRA", scores=np.full(400, 0.5))]).mcnemar is None
    assert compare_runs([run(1), run(2, "LoRA", items_hash="other")]).mcnemar is None


def test_an_arms_own_interval_is_of_its_items_or_absent() -> None:
    found = compare_runs([elsewhere(1, "full", 0.5), elsewhere(2, "LoRA", 0.5, items=None)])
    first, second = (arm.score for arm in found.arms)
    assert first is not None and second is not None
    assert (first.low, first.high) == pytest.approx((0.4731, 0.5269), abs=1e-4)
    assert (second.mean, second.low, second.high, second.usable) == (0.5, 0, 1, False)


def test_settings_that_differ_are_told_from_those_that_are_the_same() -> None:
    found = compare_runs(
        [run(1, settings={"a": "1", "b": "2"}), run(2, "LoRA", settings={"a": "1", "b": "3", "r": "8"})]
    )
    assert found.settings == {"a": ("1", "1"), "b": ("2", "3"), "r": ("", "8")}
    assert found.differing_settings == {"b": ("2", "3"), "r": ("", "8")}


def test_times_of_runs_on_different_gpus_of_a_worker_compare_with_a_doubt() -> None:
    def on(gpu: str) -> RunResult:
        plain = result()
        return plain.model_copy(update={"environment": plain.environment.model_copy(update={"gpus": [gpu]})})

    first = run(1, result=on("GPU-a"), **span(0, 10))
    found = compare_runs([first, run(2, "LoRA", result=on("GPU-b"), **span(1, 12))])
    assert ConfounderKind.SHARED_HOST in whats(found) and ConfounderKind.OVERLAP not in whats(found)
    assert found.times_comparable
    shared = compare_runs([first, run(2, "LoRA", result=on("GPU-a"), **span(1, 12))])
    assert ConfounderKind.OVERLAP in whats(shared) and ConfounderKind.SHARED_HOST not in whats(shared)
    assert not shared.times_comparable


def test_an_arm_is_searched_where_a_search_chose_the_configuration_of_one_of_its_runs() -> None:
    compared = compare_runs([run(1), run(2, "LoRA"), run(3, "LoRA", seed=1, searched=True)])
    assert {arm.title: arm.searched for arm in compared.arms} == {"full": False, "LoRA": True}


FULL, LORA, HEAD = "full", "LoRA r=8", "head only"
Scores = list[list[float]]


def study(
    arms: dict[str, Scores], base: Scores | None = None, hashes: dict[str, str] | None = None, **changes: Any
) -> StudyComparison:
    """Arms with scores a seed, [S][N]."""
    seeds = list(range(max(map(len, arms.values()))))
    spec = StudySpec(
        name="s",
        base_model="m",
        dataset="d",
        arms=[ArmSpec(method=FullSpec()), ArmSpec(method=LoraSpec()), ArmSpec(method=HeadOnlySpec())],
        seeds=seeds,
        **changes,
    )
    runs = [
        RunOutcome(
            run_id=place * 10 + seed,
            arm=arm,
            seed=seed,
            status=RunStatus.SUCCEEDED,
            result=result(),
            scores=np.asarray(scores),
            base_scores=np.asarray(base[seed]) if base else None,
            items_hash=(hashes or {}).get(arm, "h"),
        )
        for place, (arm, those) in enumerate(arms.items())
        for seed, scores in enumerate(those)
    ]
    return compare(spec, runs)


def which(flips: Flips, kind: FlipKind, arm: str) -> list[int] | None:
    """Positions of the items of a kind."""
    found = flips.mask(kind, arm)
    return None if found is None else np.flatnonzero(found).tolist()


def test_one_seed_sorts_items_by_who_is_right() -> None:
    found = study({FULL: [[1, 1, 0, 0]], LORA: [[1, 0, 1, 0]], HEAD: [[0, 0, 0, 0]]}, base=[[0, 1, 0, 0]])
    flips = Flips.of(found)
    assert which(flips, FlipKind.WORSE, LORA) == [1]
    assert which(flips, FlipKind.BETTER, LORA) == [2]
    assert which(flips, FlipKind.GAINED, LORA) == [0, 2]
    assert which(flips, FlipKind.LOST, LORA) == [1]
    assert which(flips, FlipKind.BOTH_WRONG, LORA) == [3]
    assert which(flips, FlipKind.BOTH_WRONG, HEAD) == [2, 3]
    assert which(flips, FlipKind.ALL_WRONG, FULL) == [3]
    assert which(flips, FlipKind.ANY, LORA) == [0, 1, 2, 3]


def test_a_majority_of_seeds_speaks_for_an_arm_unless_one_seed_is_chosen() -> None:
    full = [[1, 1, 1, 0], [1, 1, 0, 0]]
    lora = [[1, 0, 1, 1], [0, 0, 1, 1]]
    flips = Flips.of(study({FULL: full, LORA: lora}))
    assert which(flips, FlipKind.WORSE, LORA) == [0, 1]
    assert which(flips, FlipKind.BETTER, LORA) == [2, 3]
    assert which(flips, FlipKind.SEEDS_DIFFER, LORA) == [0]
    assert which(flips, FlipKind.SEEDS_DIFFER, FULL) == [2]
    found = study({FULL: [[1, 1], [1, 0]], LORA: [[1, 0], [0, 1]]})
    assert which(Flips.of(found, 0), FlipKind.WORSE, LORA) == [1]
    assert which(Flips.of(found, 1), FlipKind.WORSE, LORA) == [0]
    assert Flips.of(found, 7).arms == {}


def test_a_question_that_makes_no_sense_has_no_answer() -> None:
    flips = Flips.of(study({FULL: [[1, 0]], LORA: [[0, 1]]}))
    for kind in (FlipKind.WORSE, FlipKind.BETTER, FlipKind.BOTH_WRONG):
        assert flips.count(kind, FULL) is None
    assert flips.count(FlipKind.SEEDS_DIFFER, LORA) is None
    assert flips.count(FlipKind.GAINED, LORA) is None, "no run has scores of the untouched model"
    assert flips.count(FlipKind.ANY, HEAD) is None, "the arm has no run"
    assert Flips.of(study({LORA: [[1, 0]]})).count(FlipKind.WORSE, LORA) is None, "the reference has no run"


def test_graded_scores_differ_by_more_than_a_step() -> None:
    found = study(
        {FULL: [[0.50, 0.50, 0.50, 0.2]], LORA: [[0.65, 0.35, 0.55, 0.5]]},
        base=[[0.5, 0.5, 0.5, 0.5]],
        task="causal-lm",
        metric="rouge_l",
    )
    flips = Flips.of(found)
    assert which(flips, FlipKind.BETTER, LORA) == [0, 3]
    assert which(flips, FlipKind.WORSE, LORA) == [1]
    assert which(flips, FlipKind.GAINED, LORA) == [0]
    assert which(flips, FlipKind.BOTH_WRONG, LORA) == [1, 3]
    assert flips.mcnemar(LORA) is None


def test_counts_are_the_two_cells_of_mcnemars_table() -> None:
    chance = np.random.default_rng(3)
    full, lora = ((chance.uniform(size=400) < share).astype(float) for share in (0.9, 0.8))
    flips = Flips.of(study({FULL: [full.tolist()], LORA: [lora.tolist()]}))
    worse, better = flips.count(FlipKind.WORSE, LORA), flips.count(FlipKind.BETTER, LORA)
    assert worse is not None
    assert better is not None
    assert better - worse == lora.sum() - full.sum()
    assert flips.mcnemar(LORA) == McNemar.of(lora > 0.5, full > 0.5)
    table = np.asarray([True] * worse + [False] * better)
    assert flips.mcnemar(LORA) == McNemar.of(~table, table)


def test_several_seeds_have_no_mcnemar_and_runs_over_other_items_are_left_out() -> None:
    assert Flips.of(study({FULL: [[1, 0], [1, 0]], LORA: [[0, 1], [0, 1]]})).mcnemar(LORA) is None
    found = study({FULL: [[1, 0]], LORA: [[0, 1]], HEAD: [[1, 1, 1]]}, hashes={HEAD: "other"})
    flips = Flips.of(found)
    assert list(flips.arms) == [FULL, LORA]
    assert flips.items == 2


def test_quarters_hold_as_equal_shares_as_lengths_allow() -> None:
    lengths = np.asarray([10, 20, 30, 40, 50, 60, 70, 80])
    edges = quarter_edges(lengths)
    assert edges == (20, 40, 60)
    assert np.bincount(quarters(lengths, edges)).tolist() == [2, 2, 2, 2]
    same = np.full(5, 7)
    assert set(quarters(same, quarter_edges(same)).tolist()) == {0}
    assert quarter_edges(np.asarray([], dtype=np.int64)) == (0, 0, 0)


@pytest.mark.parametrize(("sure", "band"), [(0.2, 0), (0.5, 1), (0.79, 1), (0.8, 2), (0.95, 3), (1.0, 3), (np.nan, -1)])
def test_confidence_falls_into_a_band(sure: float, band: int) -> None:
    assert bands(np.asarray([sure])).tolist() == [band]
