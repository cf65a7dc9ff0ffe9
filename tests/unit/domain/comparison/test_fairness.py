"""What makes a comparison fair: conditions, confounders, the gate of an export, and a reproduction."""

from typing import Any

import numpy as np
import pytest
from scipy import stats

from app.domain.comparison.fairness.conditions import Condition, study_conditions
from app.domain.comparison.fairness.confounders import ConditionName, ConfounderKind, field_confounder
from app.domain.comparison.fairness.export_gate import ExportGate, ExportScores, GateOutcome, WeightCheck, gate
from app.domain.comparison.fairness.reproduction import ReproductionOutcome, prediction_interval, reproduction
from app.domain.comparison.model import RunOutcome
from app.domain.methods import FullSpec, HeadOnlySpec
from app.domain.runs.listing.fields import FIELDS
from app.domain.runs.result import DataSeen, RunResult
from app.domain.runs.status import RunStatus
from app.domain.runs.training import TrainingArguments
from app.domain.studies.arms import ArmSpec
from app.domain.studies.spec import StudySpec
from app.domain.studies.tuning.arm_tuning import ArmTuning
from app.domain.studies.tuning.trials import Trial
from tests.support.rows.results import result

ARMS = [ArmSpec(method=FullSpec()), ArmSpec(method=HeadOnlySpec())]
SPEC = StudySpec(name="s", base_model="m", dataset="d", arms=ARMS, seeds=[0, 1])
ORDERS = {0: "a" * 64, 1: "b" * 64}


def made(seed: int, *, items: str = "c" * 64, **changes: Any) -> RunOutcome:
    environment = {name: changes.pop(name) for name in list(changes) if name in ENVIRONMENT}
    versions = {name: changes.pop(name) for name in list(changes) if name in VERSIONS}
    found = result()
    around = found.environment.model_copy(
        update=environment | {"versions": {"torch": "2", "transformers": "5", "peft": "0.18", "vezna": "1"} | versions}
    )
    data = DataSeen(splits=changes.pop("splits", "d" * 64), order=changes.pop("order", ORDERS[seed]))
    whole: RunResult = found.model_copy(update={"environment": around, "data": data} | changes)
    return RunOutcome(seed, "arm", seed, RunStatus.SUCCEEDED, whole, items_hash=items)


ENVIRONMENT = ("device", "device_name", "threads", "precision", "attention")
VERSIONS = ("torch", "transformers", "peft", "vezna")


def differing(full: list[RunOutcome], head: list[RunOutcome], spec: StudySpec = SPEC) -> list[Condition]:
    return [c for c in study_conditions(spec, {"full": full, "head only": head}, {}) if not c.equal]


def test_runs_that_were_made_alike_differ_in_nothing_and_each_condition_has_its_value() -> None:
    runs = [made(0), made(1)]
    found = {c.name: c for c in study_conditions(SPEC, {"full": runs, "head only": runs}, {})}
    assert all(c.equal for c in found.values())
    assert found["splits"].value == "dddddddd…"
    assert found["test_items"].value == "cccccccc…"
    assert found["row_order"].value == "aaaaaaaa…, bbbbbbbb…"
    assert (found["device_kind"].value, found["vezna"].value, found["tokens"].value) == ("cpu", "1", "1000")


@pytest.mark.parametrize(
    ("change", "name", "values"),
    [
        ({"splits": "e" * 64}, "splits", ("dddddddd…", "eeeeeeee…")),
        ({"order": "f" * 64}, "row_order", ("aaaaaaaa…, bbbbbbbb…", "ffffffff…, bbbbbbbb…")),
        ({"items": "0" * 64}, "test_items", ("cccccccc…", "00000000…, cccccccc…")),
        ({"tokens": 999}, "tokens", ("1000", "999, 1000")),
        ({"steps": 9}, "steps", ("10", "9, 10")),
        ({"device": "cuda:0"}, "device_kind", ("cpu", "cpu, cuda")),
        ({"device_name": "GPU"}, "device", ("CPU", "CPU, GPU")),
        ({"threads": 4}, "threads", ("2", "2, 4")),
        ({"precision": "bf16"}, "precision", ("fp32", "bf16, fp32")),
        ({"attention": "eager"}, "attention", ("sdpa", "eager, sdpa")),
        ({"torch": "3"}, "torch", ("2", "2, 3")),
        ({"transformers": "6"}, "transformers", ("5", "5, 6")),
        ({"peft": "0.19"}, "peft", ("0.18", "0.18, 0.19")),
        ({"vezna": "2"}, "vezna", ("1", "1, 2")),
    ],
)
def test_what_differs_is_found_with_its_values(change: dict[str, Any], name: str, values: tuple[str, str]) -> None:
    found = differing([made(0), made(1)], [made(0, **change), made(1)])
    assert name in [c.name for c in found]
    [condition] = [c for c in found if c.name == name]
    if name == "splits":
        values = (values[0], f"{values[0]}, {values[1]}")
    assert tuple(condition.values.values()) == values
    assert [c.name for c in found] == [name]


def test_what_hangs_on_the_seed_is_compared_seed_by_seed() -> None:
    """A part of an epoch has other rows, and so other tokens, under another seed; both arms have the same."""
    runs = [made(0, tokens=1000), made(1, tokens=1010)]
    assert differing(runs, runs) == []
    assert differing(runs, runs[:1]) == []  # one has not run under the other seed yet
    [tokens] = differing(runs, [made(0, tokens=1010), made(1, tokens=1000)])
    assert tokens.name == "tokens"


def test_old_runs_and_arms_without_runs_state_no_condition() -> None:
    old = RunOutcome(0, "arm", 0, RunStatus.SUCCEEDED, result().model_copy(update={"data": None}))
    found = {c.name for c in study_conditions(SPEC, {"full": [old], "head only": [old]}, {})}
    assert not found & {"splits", "row_order", "test_items"}
    assert {"device", "tokens"} <= found
    assert differing([made(0), made(1)], []) == []


def trials(arm: str, count: int, *, steps: int = 10, tokens: int | None = 100) -> ArmTuning:
    spec = SPEC.model_copy(update={"tuning": TUNED.tuning})
    seen = [
        Trial(n, arm, one, one.learning_rate or 0, 0, 9, RunStatus.SUCCEEDED, 0.5, 1.0, 150, steps, tokens)
        for n, one in zip(range(count), spec.space(spec.arm(arm)).grid(3), strict=False)
    ]
    found = ArmTuning.of(spec, spec.arm(arm), seen)
    assert found is not None
    return found


TUNED = StudySpec(name="s", base_model="m", dataset="d", arms=ARMS, seeds=[0, 1], tuning="grid")  # type: ignore[arg-type]


def test_tuning_costs_are_conditions_and_early_stopped_steps_are_not() -> None:
    same = study_conditions(TUNED, {}, {"full": trials("full", 3), "head only": trials("head only", 3)})
    known = {c.name: (c.value, c.equal) for c in same}
    assert known["trials"] == ("3", True)
    assert (known["trial_steps"], known["trial_tokens"]) == (("30", True), ("300", True))
    other = study_conditions(TUNED, {}, {"full": trials("full", 3), "head only": trials("head only", 2)})
    assert [c.name for c in other if not c.equal] == ["trials", "trial_steps", "trial_tokens"]
    stopping = TUNED.model_copy(update={"training": TrainingArguments(early_stopping_patience=1)})
    runs = {"full": [made(0)], "head only": [made(0, steps=5, tokens=500)]}
    tuning = {"full": trials("full", 3), "head only": trials("head only", 3, steps=5, tokens=50)}
    assert [c.name for c in study_conditions(stopping, runs, tuning) if not c.equal] == []


RUN: dict[ConditionName, str] = {
    "metric": "accuracy",
    "dataset": "reviews",
    "dataset_version": "1",
    "device": "x86",
    "precision": "fp32",
    "memory_measure": "as here",
}


@pytest.mark.parametrize(
    ("field", "other", "what"),
    [
        ("score", {}, None),
        ("score", {"metric": "rouge_l"}, ConfounderKind.METRIC),
        ("accuracy", {"dataset": "MetaMathQA", "dataset_version": ""}, ConfounderKind.DATASET),
        ("base_score", {"dataset": ""}, ConfounderKind.DATASET),
        ("validation_score", {"dataset_version": "2"}, ConfounderKind.DATASET_VERSION),
        ("score", {"dataset_version": ""}, None),
        ("score", {"device": "L4", "precision": "bf16"}, None),
        ("loss", {"dataset_version": "2"}, ConfounderKind.DATASET_VERSION),
        ("peak", {"device": "L4"}, ConfounderKind.DEVICE),
        ("peak", {"device": ""}, ConfounderKind.DEVICE),
        ("peak", {"precision": "bf16"}, ConfounderKind.PRECISION),
        ("peak", {"memory_measure": "reserved"}, ConfounderKind.MEMORY_MEASURE),
        ("train", {"memory_measure": "reserved", "dataset": "other"}, None),
        ("train", {"precision": "bf16"}, ConfounderKind.PRECISION),
        ("speed", {"device": "L4", "precision": "bf16"}, ConfounderKind.DEVICE),
        ("trainable", {"device": "L4", "dataset": "other", "metric": "rouge_l"}, None),
    ],
)
def test_numbers_compare_on_one_basis(field: str, other: dict[ConditionName, str], what: ConfounderKind | None) -> None:
    assert field_confounder(FIELDS[field], RUN, RUN | other) == what
    assert field_confounder(FIELDS[field], RUN | other, RUN) == what


def test_what_neither_tells_is_not_the_same() -> None:
    assert field_confounder(FIELDS["train"], {}, {}) == ConfounderKind.DEVICE
    assert field_confounder(FIELDS["score"], {"metric": "accuracy"}, {"metric": "accuracy"}) == ConfounderKind.DATASET


ITEMS = 400
GATED = np.array([1.0] * 360 + [0.0] * 40)


def scores(values: np.ndarray, weights: WeightCheck | None = None) -> ExportScores:
    """What was measured of an export."""
    return ExportScores(
        loaded_with="transformers 5",
        metric="accuracy",
        items_hash="x",
        scores=values.tolist(),
        same=int((values == GATED[: len(values)]).sum()),
        weights=weights,
        seconds=1.0,
    )


def losing(items: int) -> np.ndarray:
    """The run's scores with so many right answers lost."""
    lost = GATED.copy()
    lost[:items] = 0.0
    return lost


@pytest.mark.parametrize(
    ("lost", "outcome"),
    [(0, GateOutcome.PASS), (2, GateOutcome.PASS), (8, GateOutcome.UNDECIDED), (60, GateOutcome.FAIL)],
)
def test_the_interval_and_the_margin_imply_the_outcome(lost: int, outcome: GateOutcome) -> None:
    result = gate(GATED.tolist(), scores(losing(lost)), margin=0.02)
    assert result.outcome is outcome
    assert result.delta == pytest.approx(-lost / ITEMS)
    assert result.low < result.delta < result.high
    assert (result.score, result.run_score) == pytest.approx((0.9 - lost / ITEMS, 0.9))
    assert result.same == ITEMS - lost
    assert {"pass": result.low >= -0.02, "fail": result.high < -0.02}.get(outcome, True)


def test_better_scores_pass_and_errors_that_cancel_out_widen_the_interval() -> None:
    better = GATED.copy()
    better[-30:] = 1.0
    result = gate(GATED.tolist(), scores(better), margin=0.02)
    assert result.outcome is GateOutcome.PASS and result.low > 0
    swapped = GATED.copy()
    swapped[:40], swapped[-40:] = 0.0, 1.0
    result = gate(GATED.tolist(), scores(swapped), margin=0.02)
    assert (result.delta, result.outcome) == (0.0, GateOutcome.UNDECIDED)


def test_a_wrong_tensor_fails_whatever_the_scores() -> None:
    wrong = WeightCheck(tensors=9, wrong=["layer.weight"], largest_error=3.0)
    assert gate(GATED.tolist(), scores(GATED, wrong), margin=0.02).outcome is GateOutcome.FAIL
    right = WeightCheck(tensors=9, wrong=[], largest_error=1.0)
    assert gate(GATED.tolist(), scores(GATED, right), margin=0.02).outcome is GateOutcome.PASS


@pytest.mark.parametrize("items", [3, 50])
def test_the_rounding_of_stored_scores_is_no_difference(items: int) -> None:
    exact = np.arange(1, items + 1) / 3 % 1
    stored = exact.astype("<f4").astype(np.float64)
    assert (stored != exact).any()
    result, same = (gate(run.tolist(), scores(exact), margin=0.01) for run in (stored, exact))
    assert (result.delta, result.low, result.high) == (0.0, same.low, same.high)
    assert result.score == result.run_score
    assert result.outcome is same.outcome is GateOutcome.UNDECIDED, "so few items cannot show a loss of one point"


def test_one_item_decides_nothing_and_other_items_are_an_error() -> None:
    one = gate([1.0], scores(GATED[:1]), margin=0.02)
    assert (one.outcome, one.low, one.high) == (GateOutcome.UNDECIDED, -1.0, 1.0)
    with pytest.raises(ValueError, match="same items"):
        gate(GATED.tolist(), scores(GATED[:7]), margin=0.02)


def test_a_result_has_the_versions_and_the_code_it_was_measured_with() -> None:
    versions = {"torch": "2.13.0", "vezna": "0.1.0"}
    measured = scores(GATED).model_copy(update={"versions": versions, "code": "c0de"})
    result = gate(GATED.tolist(), measured, margin=0.02)
    assert (result.versions, result.code) == (versions, "c0de")
    before = {key: value for key, value in result.model_dump().items() if key not in ("versions", "code")}
    stored = ExportGate.model_validate(before)
    assert (stored.versions, stored.code) == ({}, ""), "what was stored without them still loads"


SEEDS = [0.90, 0.91, 0.89]
MANY = 10**6
"""Items, of which one does not matter."""


def repeated_scores(right: int, n: int = 100) -> np.ndarray:
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
        (repeated_scores(90), SEEDS, ReproductionOutcome.IDENTICAL),
        (repeated_scores(90), [0.9], ReproductionOutcome.IDENTICAL),
        (repeated_scores(93), SEEDS, ReproductionOutcome.WITHIN),
        (repeated_scores(80), SEEDS, ReproductionOutcome.OUTSIDE),
        (repeated_scores(98), SEEDS, ReproductionOutcome.OUTSIDE),
        (repeated_scores(93), [0.9], ReproductionOutcome.UNKNOWN),
        (repeated_scores(90)[::-1], SEEDS, ReproductionOutcome.WITHIN),
        (repeated_scores(90), [0.9, 0.9], ReproductionOutcome.IDENTICAL),
        (repeated_scores(91), [0.9, 0.9, 0.9], ReproductionOutcome.WITHIN),
        (repeated_scores(80), [0.9, 0.9, 0.9], ReproductionOutcome.OUTSIDE),
    ],
)
def test_the_outcome(again: np.ndarray, seeds: list[float], outcome: ReproductionOutcome) -> None:
    found = reproduction(repeated_scores(90), again, seeds, same_weights=False)
    assert found.outcome is outcome
    assert (found.score, found.again, found.seeds) == (0.9, float(again.mean()), len(seeds))
    assert found.delta == pytest.approx(float(again.mean()) - 0.9)


def test_items_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="the same items"):
        reproduction(repeated_scores(9, 10), repeated_scores(9, 11), SEEDS, same_weights=False)
