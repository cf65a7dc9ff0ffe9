"""Arms without a name are named after what distinguishes them, and keep that name when another arm joins."""

from typing import Any

import pytest

from app.domain.studies.arms import ArmSpec, without_default_names
from app.domain.studies.spec import StudySpec

FULL = {"method": {"kind": "full"}}
LORA = {"method": {"kind": "lora", "r": 8}}


def lora(**settings: Any) -> dict[str, Any]:
    return {"method": {"kind": "lora", "r": 8} | settings}


def study(*arms: Any) -> StudySpec:
    return StudySpec.model_validate({"name": "Mine", "base_model": "tiny", "dataset": "small", "arms": arms})


@pytest.mark.parametrize(
    ("arms", "names"),
    [
        ([FULL, LORA], ["full", "LoRA r=8"]),
        ([LORA, lora(target_modules=["query", "value"])], ["LoRA r=8", "LoRA r=8 query,value"]),
        (
            [lora(target_modules=["query", "value"]), lora(target_modules=["key"])],
            ["LoRA r=8 query,value", "LoRA r=8 key"],
        ),
        ([LORA, LORA | {"learning_rate": 5e-4}], ["LoRA r=8 lr=0.0018", "LoRA r=8 lr=0.0005"]),
        ([lora(lora_alpha=32), lora(use_dora=True), LORA], ["LoRA r=8 alpha=32", "DoRA r=8", "LoRA r=8"]),
        ([FULL, FULL | {"weight_decay": 0.1}], ["full", "full weight_decay=0.1"]),
        ([LORA, LORA | {"per_device_train_batch_size": 64}], ["LoRA r=8", "LoRA r=8 batch=64"]),
        ([FULL, FULL | {"train_fraction": 0.25}], ["full", "full train_fraction=0.25"]),
        ([FULL | {"name": "LoRA r=8"}, LORA], ["LoRA r=8", "LoRA r=8 (2)"]),
    ],
)
def test_a_default_name_has_what_differs(arms: list[dict[str, Any]], names: list[str]) -> None:
    assert [arm.name for arm in study(*arms).arms] == names


def test_an_arm_that_is_added_changes_no_other_name() -> None:
    first = study(lora(target_modules=["key"]))
    whole = study(*first.arms, LORA, lora(target_modules=["key"]) | {"learning_rate": 1e-4})
    assert [arm.name for arm in whole.arms] == ["LoRA r=8", "LoRA r=8 lr=0.0018", "LoRA r=8 key lr=0.0001"]


def test_where_the_short_name_is_taken_a_default_is_named() -> None:
    first = study(lora(target_modules=["key"]))
    assert [arm.name for arm in study(*first.arms, LORA).arms] == ["LoRA r=8", "LoRA r=8 all-linear"]


def test_a_name_that_would_be_too_long_is_numbered() -> None:
    modules = [f"encoder.layer.{n}.attention.self.query" for n in range(4)]
    assert [arm.name for arm in study(LORA, lora(target_modules=modules)).arms] == ["LoRA r=8", "LoRA r=8 (2)"]


def test_default_names_are_left_out_where_arms_are_edited() -> None:
    arms = study(LORA, LORA | {"learning_rate": 1e-3}, FULL | {"name": "mine"}).arms
    assert [arm.name for arm in without_default_names(arms)] == ["", "", "mine"]


def test_an_arm_alone_has_its_methods_label() -> None:
    assert ArmSpec.model_validate(LORA).title == "LoRA r=8"
