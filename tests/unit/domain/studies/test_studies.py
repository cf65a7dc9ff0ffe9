"""Studies: the runs that they owe, their arms, and default names."""

from typing import Any

import pytest
from pydantic import ValidationError

from app.domain.methods import FullSpec, LoraSpec
from app.domain.runs.status import TRANSITIONS, RunStatus
from app.domain.studies.arms import ArmSpec, without_default_names
from app.domain.studies.spec import StudySpec, StudyStatus, status_of
from app.samples import samples as sample

FULL, LORA = ArmSpec(method=FullSpec()), ArmSpec(method=LoraSpec())


def study(**changes: object) -> StudySpec:
    return StudySpec.model_validate(
        {"name": "s", "base_model": "m", "dataset": "d", "arms": [FULL, LORA], "seeds": [0, 1]} | changes
    )


def test_runs_come_seed_by_seed_with_their_own_seed_and_rate_and_one_budget() -> None:
    assert [(r.arm, r.seed) for r in study().owed()] == [("full", 0), ("LoRA r=8", 0), ("full", 1), ("LoRA r=8", 1)]
    owed = study(arms=[FULL, ArmSpec(method=LoraSpec(), learning_rate=3e-4, weight_decay=0.1)]).owed()
    assert [r.spec.training.seed for r in owed] == [0, 0, 1, 1]
    assert owed[1].spec.training.learning_rate == 3e-4
    assert owed[1].spec.training.weight_decay == 0.1
    assert owed[0].spec.training.weight_decay == 0.0
    shared = [
        run.spec.training.model_dump(exclude={"learning_rate", "weight_decay", "seed"}) for run in sample.study().owed()
    ]
    assert all(budget == shared[0] for budget in shared)


def test_an_arm_may_have_training_arguments_of_its_own() -> None:
    arm = ArmSpec(
        method=LoraSpec(),
        train_fraction=0.25,
        num_train_epochs=5,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        warmup_steps=10,
        weight_decay=0.1,
    )
    budget = {"max_steps": 7, "per_device_train_batch_size": 64, "weight_decay": 0.01}
    full, lora = (run.spec.training for run in study(arms=[FULL, arm], training=budget, seeds=[3]).owed())
    assert (full.max_steps, full.per_device_train_batch_size, full.weight_decay) == (7, 64, 0.01)
    assert (full.train_fraction, full.gradient_accumulation_steps) == (1, 1)
    assert lora.model_dump(include=set(arm.overrides)) == arm.overrides
    assert lora.max_steps is None, "its epochs replace the steps of the study"
    assert (lora.seed, lora.max_length) == (3, full.max_length)


def test_a_trial_is_a_share_of_its_arms_own_budget() -> None:
    arms = [FULL, ArmSpec(method=LoraSpec(), num_train_epochs=12)]
    halving = study(arms=arms, tuning={"kind": "halving", "rates": 6}, training={"num_train_epochs": 6})
    epochs = {trial.arm: trial.spec.training.num_train_epochs for trial in halving.first_trials()}
    assert epochs["LoRA r=8"] == 2 * epochs["full"]


@pytest.mark.parametrize("wrong", [{"train_fraction": 0}, {"train_fraction": 1.5}, {"max_steps": 0}, {"seed": 1}])
def test_an_argument_of_an_arm_has_the_limits_of_the_budgets(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        ArmSpec.model_validate({"method": {"kind": "full"}} | wrong)


def test_the_reference_is_full_unless_named_and_equal_arms_are_refused() -> None:
    assert study(arms=[LORA, FULL]).reference_arm == "full"
    assert study(reference="LoRA r=8").reference_arm == "LoRA r=8"
    assert study(arms=[LORA]).reference_arm == "LoRA r=8"
    twice = [ArmSpec(method=LoraSpec(r=8), learning_rate=rate, name=f"lr {rate}") for rate in (1e-3, 1e-4)]
    assert len(study(arms=twice).owed()) == 4
    with pytest.raises(ValidationError, match="Two arms are named"):
        study(arms=[FULL, FULL])


@pytest.mark.parametrize(
    ("states", "where"),
    [
        (["queued", "queued"], StudyStatus.QUEUED),
        (["succeeded", "queued"], StudyStatus.RUNNING),
        (["running", "queued"], StudyStatus.RUNNING),
        (["succeeded", "failed"], StudyStatus.FINISHED),
        (["succeeded", "cancelled"], StudyStatus.FINISHED),
        (["cancelled", "cancelled"], StudyStatus.CANCELLED),
    ],
)
def test_where_a_study_stands_follows_from_its_runs(states: list[str], where: StudyStatus) -> None:
    assert status_of([RunStatus(state) for state in states]) is where


def test_nothing_follows_a_terminal_state() -> None:
    assert {status for status, after in TRANSITIONS.items() if not after} == {s for s in RunStatus if s.terminal}


FULL_ARM = {"method": {"kind": "full"}}
LORA_ARM = {"method": {"kind": "lora", "r": 8}}


def lora(**settings: Any) -> dict[str, Any]:
    return {"method": {"kind": "lora", "r": 8} | settings}


def named(*arms: Any) -> StudySpec:
    return StudySpec.model_validate({"name": "Mine", "base_model": "tiny", "dataset": "small", "arms": arms})


@pytest.mark.parametrize(
    ("arms", "names"),
    [
        ([FULL_ARM, LORA_ARM], ["full", "LoRA r=8"]),
        ([LORA_ARM, lora(target_modules=["query", "value"])], ["LoRA r=8", "LoRA r=8 query,value"]),
        (
            [lora(target_modules=["query", "value"]), lora(target_modules=["key"])],
            ["LoRA r=8 query,value", "LoRA r=8 key"],
        ),
        ([LORA_ARM, LORA_ARM | {"learning_rate": 5e-4}], ["LoRA r=8 lr=0.0018", "LoRA r=8 lr=0.0005"]),
        ([lora(lora_alpha=32), lora(use_dora=True), LORA_ARM], ["LoRA r=8 alpha=32", "DoRA r=8", "LoRA r=8"]),
        ([FULL_ARM, FULL_ARM | {"weight_decay": 0.1}], ["full", "full weight_decay=0.1"]),
        ([LORA_ARM, LORA_ARM | {"per_device_train_batch_size": 64}], ["LoRA r=8", "LoRA r=8 batch=64"]),
        ([FULL_ARM, FULL_ARM | {"train_fraction": 0.25}], ["full", "full train_fraction=0.25"]),
        ([FULL_ARM | {"name": "LoRA r=8"}, LORA_ARM], ["LoRA r=8", "LoRA r=8 (2)"]),
    ],
)
def test_a_default_name_has_what_differs(arms: list[dict[str, Any]], names: list[str]) -> None:
    assert [arm.name for arm in named(*arms).arms] == names


def test_default_names_are_stable_and_bounded() -> None:
    first = named(lora(target_modules=["key"]))
    whole = named(*first.arms, LORA_ARM, lora(target_modules=["key"]) | {"learning_rate": 1e-4})
    assert [arm.name for arm in whole.arms] == ["LoRA r=8", "LoRA r=8 lr=0.0018", "LoRA r=8 key lr=0.0001"]
    assert [arm.name for arm in named(*first.arms, LORA_ARM).arms] == ["LoRA r=8", "LoRA r=8 all-linear"]
    modules = [f"encoder.layer.{n}.attention.self.query" for n in range(4)]
    assert [arm.name for arm in named(LORA_ARM, lora(target_modules=modules)).arms] == ["LoRA r=8", "LoRA r=8 (2)"]
    assert ArmSpec.model_validate(LORA_ARM).title == "LoRA r=8"


def test_default_names_are_left_out_where_arms_are_edited() -> None:
    arms = named(LORA_ARM, LORA_ARM | {"learning_rate": 1e-3}, FULL_ARM | {"name": "mine"}).arms
    assert [arm.name for arm in without_default_names(arms)] == ["", "", "mine"]
