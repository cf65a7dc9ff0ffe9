"""A study's comparison, and the baselines that its reference must beat."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from app.domain.comparison.baselines import StoredBaseline, baseline_results, has_zero_shot, unbeaten
from app.domain.comparison.fairness.confounders import ConfounderKind, Effect
from app.domain.comparison.model import RunOutcome
from app.domain.comparison.statistics.clusters import Clusters
from app.domain.comparison.statistics.intervals import Scores
from app.domain.comparison.statistics.verdict import VerdictKind
from app.domain.comparison.study import StudyComparison, compare
from app.domain.data.baselines import Baseline, BaselineKind
from app.domain.failures import Failure, FailureCode
from app.domain.methods import FullSpec, HeadOnlySpec, LoraSpec
from app.domain.runs.result import Forgetting, RunResult
from app.domain.runs.status import RunStatus
from app.domain.studies.arms import ArmSpec
from app.domain.studies.spec import StudySpec
from app.web.figures.drawing.axes import AXES
from app.words.verdict.caveats import caveats
from tests.support.rows.results import result

K = ConfounderKind
START = datetime(2026, 1, 1, tzinfo=UTC)
SPEC = StudySpec(
    name="s",
    base_model="m",
    dataset="d",
    arms=[ArmSpec(method=FullSpec()), ArmSpec(method=LoraSpec()), ArmSpec(method=HeadOnlySpec())],
    seeds=[0, 1, 2],
    margin_points=2,
)
ITEMS = 400


def scores(accuracy: float, seed: int) -> np.ndarray:
    """Right on the first items, but for a few that depend on the seed."""
    right = np.zeros(ITEMS)
    right[: round(accuracy * ITEMS)] = 1
    return np.roll(right, seed)


def outcome(arm: str, seed: int, accuracy: float | None, place: int, **changes: object) -> RunOutcome:
    values: dict[str, object] = {
        "run_id": place,
        "arm": arm,
        "seed": seed,
        "status": RunStatus.QUEUED if accuracy is None else RunStatus.SUCCEEDED,
        "result": None if accuracy is None else result(accuracy),
        "scores": None if accuracy is None else scores(accuracy, seed),
        "base_scores": None if accuracy is None else scores(0.2, seed),
        "items_hash": None if accuracy is None else "h",
        "worker": "w1",
        "started_at": START + timedelta(minutes=place),
        "finished_at": START + timedelta(minutes=place, seconds=50),
    }
    return RunOutcome(**(values | changes))  # type: ignore[arg-type]


def weighed(accuracies: dict[str, float | None], **changes: object) -> StudyComparison:
    runs = [
        outcome(arm, seed, accuracy, place=seed * 10 + i, **changes)
        for seed in SPEC.seeds
        for i, (arm, accuracy) in enumerate(accuracies.items())
    ]
    return compare(SPEC, runs)


def test_arms_are_compared_with_the_reference_and_none_before_results() -> None:
    found = weighed({"full": 0.9, "LoRA r=8": 0.9, "head only": 0.7})
    assert found.reference.title == "full" and found.reference.verdict is None
    lora, head = found.others
    assert lora.verdict and lora.verdict.kind is VerdictKind.ENOUGH
    assert head.verdict and head.verdict.kind is VerdictKind.WORSE
    assert head.verdict.difference and head.verdict.difference.delta == pytest.approx(-0.2)
    assert found.best_scores == {"full", "LoRA r=8"}
    assert found.complete and found.items == ITEMS
    assert found.base_score and found.base_score.mean == pytest.approx(0.2)
    found = weighed({"full": None, "LoRA r=8": None, "head only": None})
    assert not found.complete
    assert all(arm.score is None and arm.costs is None for arm in found.arms)
    assert found.best_scores == frozenset()


def test_a_failed_seed_is_shown_and_blocks_nothing() -> None:
    runs = [outcome(arm, seed, 0.9, seed * 10 + i) for seed in (0, 1, 2) for i, arm in enumerate(["full", "LoRA r=8"])]
    failure = Failure(code=FailureCode.DIVERGED, message="loss is not finite")
    runs[-1] = outcome("LoRA r=8", 2, None, 99, status=RunStatus.FAILED, failure=failure)
    found = compare(SPEC, runs)
    lora = found.arms[1]
    assert len(lora.succeeded) == 2 and [r.failure for r in lora.failed] == [failure]
    assert lora.verdict and lora.verdict.kind is not VerdictKind.NONE


def test_costs_are_the_mean_over_seeds_with_their_range() -> None:
    costs = weighed({"full": 0.9, "LoRA r=8": 0.9, "head only": 0.7}).arms[0].costs
    assert costs
    assert (costs.peak_bytes.mean, costs.peak_bytes.low, costs.peak_bytes.high) == (900, 900, 900)
    assert costs.rest_bytes == 900 - 400 - 100 - 200
    assert costs.train_seconds.mean == pytest.approx(3.5)


def test_times_are_not_compared_between_or_on_shared_devices() -> None:
    slow = result(0.9).model_dump() | {"environment": result().environment.model_dump() | {"device_name": "other"}}
    runs = [outcome("full", 0, 0.9, 0), outcome("LoRA r=8", 0, 0.9, 1, result=RunResult.model_validate(slow))]
    found = compare(SPEC, runs)
    assert not found.times_comparable and not found.memory_comparable
    assert [c.name for c in found.conditions if not c.equal] == ["device"]
    runs = [outcome("full", 0, 0.9, 0), outcome("LoRA r=8", 0, 0.9, 0)]
    found = compare(SPEC, runs)
    assert not found.times_comparable and found.memory_comparable


def test_a_condition_is_equal_only_where_every_run_had_one_value() -> None:
    other = result(0.9).model_dump() | {"environment": result().environment.model_dump() | {"device_name": "other"}}
    elsewhere = RunResult.model_validate(other)
    runs = [outcome(arm, 0, 0.9, place) for place, arm in enumerate(["full", "LoRA r=8"])]
    runs += [outcome(arm, 1, 0.9, 10 + place, result=elsewhere) for place, arm in enumerate(["full", "LoRA r=8"])]
    [device] = [c for c in compare(SPEC, runs).conditions if c.name == "device"]
    assert len(set(device.values.values())) == 1 and not device.equal
    full, lora, head = SPEC.arms
    spec = SPEC.model_copy(update={"arms": [full, lora.model_copy(update={"weight_decay": 0.1}), head]})
    unequal = {c.name: c.values for c in compare(spec, []).conditions if not c.equal}
    assert unequal == {"weight_decay": {"full": "0", "LoRA r=8": "0.1", "head only": "0"}}


def test_an_arm_whose_one_seed_hints_that_it_is_worse_is_not_among_the_best() -> None:
    runs = [outcome("full", seed, 0.9, seed) for seed in SPEC.seeds]
    found = compare(SPEC, [*runs, outcome("LoRA r=8", 0, 0.9, 10), outcome("head only", 0, 0.5, 11)])
    assert [arm.verdict.hint for arm in found.others if arm.verdict] == [VerdictKind.ENOUGH, VerdictKind.WORSE]
    assert found.best_scores == {"full", "LoRA r=8"}


def test_the_untouched_model_is_held_against_the_reference_with_an_interval() -> None:
    seen = weighed({"full": 0.9, "LoRA r=8": 0.9, "head only": 0.7}).base_difference
    assert seen and seen.delta == pytest.approx(-0.7) and 0 < seen.half_width < 0.1


def test_a_run_over_other_test_items_is_left_out_of_the_verdict() -> None:
    runs = [outcome(arm, seed, 0.9, seed * 10 + i) for seed in (0, 1) for i, arm in enumerate(["full", "LoRA r=8"])]
    runs.append(outcome("LoRA r=8", 2, 0.1, 50, scores=np.zeros(7), items_hash="other"))
    lora = compare(SPEC, runs).arms[1]
    assert lora.score and lora.score.seeds == 2


def test_a_second_arm_of_a_family_is_drawn_hollow() -> None:
    spec = SPEC.model_copy(update={"arms": [ArmSpec(method=LoraSpec(r=r)) for r in (2, 4, 8)]})
    assert [arm.hollow for arm in compare(spec, []).arms] == [0, 1, 2]


def changed(**environment: object) -> RunResult:
    """A result that was made under other conditions."""
    where = result().environment.model_copy(update=environment)
    return result(0.9).model_copy(update={"environment": where})


def test_the_method_decides_the_dtype_of_frozen_weights_and_precision_is_a_condition() -> None:
    full, lora = changed(precision="bf16"), changed(precision="bf16", frozen_dtype="bfloat16")
    found = compare(SPEC, [outcome("full", 0, 0.9, 0, result=full), outcome("LoRA r=8", 0, 0.9, 1, result=lora)])
    assert found.memory_comparable and found.times_comparable
    assert [c.name for c in found.conditions if not c.equal] == []
    runs = [outcome("full", 0, 0.9, 0), outcome("LoRA r=8", 0, 0.9, 1, result=changed(precision="bf16"))]
    found = compare(SPEC, runs)
    assert not found.memory_comparable and not found.times_comparable
    assert [c.name for c in found.conditions if not c.equal] == ["precision"]


def test_steps_are_a_condition_unless_early_stopping_was_to_end_the_runs() -> None:
    shorter = result(0.9).model_copy(update={"steps": 7, "tokens": 700})
    runs = [outcome("full", 0, 0.9, 0), outcome("LoRA r=8", 0, 0.9, 1, result=shorter)]
    stopping = SPEC.model_copy(update={"training": SPEC.training.model_copy(update={"early_stopping_patience": 1})})
    assert [c.name for c in compare(SPEC, runs).conditions if not c.equal] == ["steps", "tokens"]
    assert [c.name for c in compare(stopping, runs).conditions if not c.equal] == []


def test_forgetting_is_the_mean_over_the_seeds_that_measured_it() -> None:
    def forgot(change: float) -> RunResult:
        measured = Forgetting(dataset="general", tokens=1000, base_loss=3.0, adapted_loss=3.0 + change)
        return result(0.9).model_copy(update={"forgetting": measured})

    runs = [outcome("full", seed, 0.9, seed, result=forgot(change)) for seed, change in enumerate((0.2, 0.4))]
    runs += [outcome("full", 2, 0.9, 2), outcome("LoRA r=8", 0, 0.9, 3)]
    full, lora, head = compare(SPEC, runs).arms
    assert full.forgetting and full.forgetting.mean == pytest.approx(0.3)
    assert (full.forgetting.low, full.forgetting.high) == pytest.approx((0.2, 0.4))
    assert lora.forgetting is None and head.forgetting is None
    assert any(arm.forgetting for arm in compare(SPEC, runs).arms)
    assert not any(arm.forgetting for arm in compare(SPEC, runs[2:]).arms)


def test_a_study_can_show_what_its_test_items_permit() -> None:
    assumed = compare(SPEC, [], test_items=ITEMS).detectable_difference
    alike = weighed({"full": 0.9, "LoRA r=8": 0.9, "head only": 0.9}).detectable_difference
    unlike = weighed({"full": 0.9, "LoRA r=8": 0.5, "head only": 0.2}).detectable_difference
    assert assumed and alike and unlike
    assert alike < assumed < unlike
    assert compare(SPEC, [], test_items=1).detectable_difference is None


@pytest.mark.parametrize(
    ("own", "kind", "values"),
    [
        ({"train_fraction": 0.25}, ConfounderKind.TRAIN_FRACTION, {"100\N{NO-BREAK SPACE}%", "25\N{NO-BREAK SPACE}%"}),
        ({"num_train_epochs": 9}, ConfounderKind.BUDGET, {"epochs 3", "epochs 9"}),
        ({"max_steps": 40}, ConfounderKind.BUDGET, {"epochs 3", "steps 40"}),
        ({"per_device_train_batch_size": 4}, ConfounderKind.BATCH_SIZE, {"16", "4"}),
        ({"gradient_accumulation_steps": 4}, ConfounderKind.BATCH_SIZE, {"16", "64"}),
        ({"warmup_steps": 10}, ConfounderKind.WARMUP, {"0.06", "10"}),
        ({"weight_decay": 0.1}, ConfounderKind.WEIGHT_DECAY, {"0", "0.1"}),
    ],
)
def test_what_an_arm_sets_for_itself_casts_doubt(own: dict[str, float], kind: ConfounderKind, values: set[str]) -> None:
    spec = SPEC.model_copy(update={"arms": [SPEC.arms[0], SPEC.arms[1].model_copy(update=own)]})
    study = compare(spec, [outcome(arm, 0, 0.9, place) for place, arm in enumerate(["full", "LoRA r=8"])])
    [confounder] = [one for one in study.confounders if one.kind not in (K.UNTUNED, K.ONE_SEED)]
    assert (confounder.kind, confounder.effect, set(confounder.values)) == (kind, Effect.DOUBT, values)
    assert study.memory_comparable and study.times_comparable


def test_training_arguments_that_all_arms_share_are_no_confounder() -> None:
    arms = [arm.model_copy(update={"per_device_train_batch_size": 16, "max_steps": None}) for arm in SPEC.arms[:2]]
    spec = SPEC.model_copy(update={"arms": arms})
    study = compare(spec, [outcome(arm, 0, 0.9, place) for place, arm in enumerate(["full", "LoRA r=8"])])
    assert {one.kind for one in study.confounders} == {K.UNTUNED, K.ONE_SEED}


def test_seeds_that_trained_together_have_scores_but_no_costs() -> None:
    """Of LoRA the first seed trained alone. The others, at the same time on the same worker, confound no time."""

    def lora(seed: int, minute: int) -> RunOutcome:
        own = result(0.9)
        if seed:
            clocks = own.clocks.model_copy(update={"forward": 99.0})
            memory = own.memory.model_copy(update={"peak_bytes": 10**9})
            own = own.model_copy(update={"trained_together": 2, "clocks": clocks, "memory": memory})
        return outcome("LoRA r=8", seed, 0.9, minute, result=own)

    full = [outcome("full", seed, 0.9, 10 + seed) for seed in range(3)]
    found = compare(SPEC, [*full, lora(0, 20), lora(1, 21), lora(2, 21)])
    reference, arm = found.arms[0], found.arms[1]
    assert arm.score and arm.score.seeds == 3 and arm.costs and reference.costs
    assert (arm.costs.train_seconds, arm.costs.peak_bytes) == (
        reference.costs.train_seconds,
        reference.costs.peak_bytes,
    )
    for name in ("time", "wall", "memory", "speed"):
        assert AXES[name].spread(arm) == AXES[name].spread(reference)
    assert found.times_comparable and found.memory_comparable
    assert not compare(SPEC, [*full, lora(0, 21), lora(1, 21), lora(2, 21)]).times_comparable, "beside the first seed"
    assert compare(SPEC, [*full, lora(1, 21)]).arms[1].costs is None


def test_a_study_counts_clusters_of_items_and_says_so() -> None:
    clusters = Clusters(np.arange(ITEMS) // 20)
    plain, clustered = (weighed({arm.title: 0.8 for arm in SPEC.arms}, clusters=known) for known in (None, clusters))
    assert (plain.items, plain.clusters, clustered.clusters) == (ITEMS, None, 20)
    for one, other in zip(plain.others, clustered.others, strict=True):
        assert one.difference and other.difference and one.score and other.score
        assert other.score.high - other.score.mean > 2 * (one.score.high - one.score.mean)
    assert caveats(clustered)[0].text.startswith("400 test items in 20 groups, by equal inputs or the dataset's groups")
    assert caveats(clustered)[1].text.startswith("with fewer than 30 groups")


N = 400


def stored(kind: BaselineKind, right: int, items_hash: str = "h") -> StoredBaseline:
    scores = [1.0] * right + [0.0] * (N - right)
    answer = Baseline(
        kind=kind,
        metrics={"accuracy": right / N},
        scores={"accuracy": scores},
        items_hash=items_hash,
        trained_rows=10,
        train_rows=10,
        seconds=0.1,
    )
    return StoredBaseline(kind, "ready", baseline=answer)


def reference(right: int, seeds: int = 3) -> Scores:
    """Right on the first items, but for a few that depend on the seed."""
    scores = np.zeros((seeds, N))
    scores[:, :right] = 1
    for seed in range(seeds):
        scores[seed] = np.roll(scores[seed], seed)
    return scores


def test_baselines_that_are_not_beaten_come_strongest_first() -> None:
    trivial, tfidf = baseline_results(
        [stored("most-frequent", 100), stored("tfidf", 318)], "accuracy", reference(320), "h", 0.95
    )
    assert trivial.score and trivial.score.mean == 0.25 and trivial.score.seeds == 1
    assert trivial.beaten and trivial.difference and trivial.difference.mean == pytest.approx(-0.55)
    assert not tfidf.beaten
    assert unbeaten([trivial, tfidf]) == [tfidf]
    known = [stored("most-frequent", 310), stored("tfidf", 330), stored("embeddings", 320)]
    results = baseline_results(known, "accuracy", reference(300), "h", 0.95)
    assert [result.stored.kind for result in unbeaten(results)] == ["tfidf", "embeddings", "most-frequent"]


def test_what_cannot_be_compared_is_shown_and_not_counted() -> None:
    waiting = StoredBaseline("embeddings", "working")
    failed = StoredBaseline("tfidf", "failed", "Too large.")
    elsewhere = stored("most-frequent", 390, items_hash="other")
    results = baseline_results([waiting, failed, elsewhere], "accuracy", reference(300), "h", 0.95)
    assert [result.difference for result in results] == [None] * 3
    assert [result.score is None for result in results] == [True, True, False]
    assert unbeaten(results) == []
    assert baseline_results([elsewhere], "accuracy", None, None, 0.95)[0].difference is None


def test_a_language_model_before_training_is_the_zero_shot_baseline() -> None:
    base = np.zeros((3, N))
    base[:, :100] = 1
    [found] = baseline_results([], "rouge_l", reference(320), "h", 0.95, base)
    assert found.stored.kind == "zero-shot" and found.facts.trivial and has_zero_shot([found])
    assert found.score and found.score.mean == 0.25 and found.score.seeds == 1 and found.beaten
    [alone] = baseline_results([], "rouge_l", None, None, 0.95, base)
    assert alone.difference is None


def test_the_difference_is_that_of_the_items_and_covers_the_seeds() -> None:
    """Seeds that scatter widen the interval, though their mean and the items stay the same."""
    alike, apart = np.repeat(reference(300, 1), 4, axis=0), np.zeros((4, N))
    for seed, right in enumerate((260, 340, 280, 320)):
        apart[seed, :right] = 1
    [calm], [wild] = (
        baseline_results([stored("tfidf", 200)], "accuracy", scores, "h", 0.95) for scores in (alike, apart)
    )
    assert calm.difference and wild.difference
    assert calm.difference.mean == pytest.approx(wild.difference.mean) == pytest.approx(-0.25)
    widths = [found.difference.high - found.difference.low for found in (wild, calm) if found.difference]
    assert widths[0] > 1.5 * widths[1]


@pytest.mark.slow
@pytest.mark.parametrize("others", [1, 3])
def test_a_reference_no_better_than_a_baseline_seldom_beats_all(others: int) -> None:
    """One baseline is as good as the reference, the others are far worse: the intersection-union test needs no
    correction for their number (Berger 1982). Two-sided 95 %, so one side at 2.5 %."""
    rng = np.random.default_rng(7)
    claims, studies, items, seeds = 0, 1500, 200, 3
    for _ in range(studies):
        difficulty = rng.normal(size=items)
        right = (rng.normal(size=(seeds, items)) + difficulty + 0.2 * rng.normal(size=(seeds, 1)) > 0).astype(float)
        equal = (rng.normal(size=items) + difficulty > 0).astype(float)
        known = [_of(equal), *(_of(np.zeros(items)) for _ in range(others - 1))]
        results = baseline_results(known, "accuracy", right, "h", 0.95)
        claims += not unbeaten(results)
    assert claims / studies <= 0.035


def _of(scores: np.ndarray) -> StoredBaseline:
    values = {"metrics": {}, "items_hash": "h", "trained_rows": 1, "train_rows": 1, "seconds": 0.0}
    return StoredBaseline(
        "tfidf", "ready", baseline=Baseline(kind="tfidf", scores={"accuracy": scores.tolist()}, **values)
    )
