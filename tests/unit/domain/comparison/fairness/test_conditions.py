"""What a study held equal, read off its runs: each thing is found where it differs, and only there."""

from typing import Any

import pytest

from app.domain.comparison.fairness.conditions import Condition, study_conditions
from app.domain.comparison.model import RunOutcome
from app.domain.methods import FullSpec, HeadOnlySpec
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
def test_what_differs_in_one_run_is_found_with_its_values(
    change: dict[str, Any], name: str, values: tuple[str, str]
) -> None:
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


def test_a_run_from_before_something_was_looked_at_says_nothing_of_it() -> None:
    old = RunOutcome(0, "arm", 0, RunStatus.SUCCEEDED, result().model_copy(update={"data": None}))
    found = {c.name for c in study_conditions(SPEC, {"full": [old], "head only": [old]}, {})}
    assert not found & {"splits", "row_order", "test_items"}
    assert {"device", "tokens"} <= found


def test_an_arm_without_runs_is_left_out() -> None:
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


def test_what_tuning_took_is_a_condition() -> None:
    same = study_conditions(TUNED, {}, {"full": trials("full", 3), "head only": trials("head only", 3)})
    known = {c.name: (c.value, c.equal) for c in same}
    assert known["trials"] == ("3", True)
    assert (known["trial_steps"], known["trial_tokens"]) == (("30", True), ("300", True))
    other = study_conditions(TUNED, {}, {"full": trials("full", 3), "head only": trials("head only", 2)})
    assert [c.name for c in other if not c.equal] == ["trials", "trial_steps", "trial_tokens"]


def test_with_early_stopping_steps_are_what_came_of_a_run_and_no_condition() -> None:
    stopping = TUNED.model_copy(update={"training": TrainingArguments(early_stopping_patience=1)})
    runs = {"full": [made(0)], "head only": [made(0, steps=5, tokens=500)]}
    tuning = {"full": trials("full", 3), "head only": trials("head only", 3, steps=5, tokens=50)}
    assert [c.name for c in study_conditions(stopping, runs, tuning) if not c.equal] == []
