"""How many devices a run may have: they divide the micro-batches of a step."""

import pytest
from pydantic import ValidationError

from app.domain.methods import FullSpec, LeanFullSpec, LoraSpec
from app.domain.runs.training import TrainingArguments, TrainingBudget
from app.domain.studies.arms import ArmSpec
from app.domain.studies.spec import StudySpec
from app.domain.studies.tuning.search_space import Configuration


def training(devices: int, batches: int, size: int = 8) -> TrainingBudget:
    return TrainingBudget(
        gradient_accumulation_steps=batches, per_device_train_batch_size=size, devices=devices, max_steps=4
    )


def study(budget: TrainingBudget, *arms: ArmSpec) -> StudySpec:
    return StudySpec(name="s", base_model="bert", dataset="words", arms=list(arms), training=budget)


def problem(error: pytest.ExceptionInfo[ValidationError]) -> tuple[str, str]:
    [found] = error.value.errors()
    path = ".".join([*map(str, found["loc"]), found["ctx"]["path"]])
    return path, f"{found['msg']}. {found['ctx']['remedy']}"


def test_devices_divide_the_batches_of_a_step() -> None:
    assert training(2, 4).devices == 2
    assert training(1, 3).devices == 1
    assert TrainingArguments().devices == 1


@pytest.mark.parametrize(
    ("size", "remedy"),
    [
        (8, "set gradient_accumulation_steps to 2 and per_device_train_batch_size to 12"),
        (5, "Choose a number of rows per optimizer step that is a multiple of 2"),
    ],
)
def test_the_remedy_keeps_the_rows_of_a_step(size: int, remedy: str) -> None:
    with pytest.raises(ValidationError) as error:
        training(2, 3, size)
    path, message = problem(error)
    assert path == "devices" and remedy in message


def test_padding_free_batches_are_for_one_device() -> None:
    with pytest.raises(ValidationError) as error:
        TrainingBudget(devices=2, gradient_accumulation_steps=2, padding_free=True)
    path, message = problem(error)
    assert path == "devices" and "padding_free" in message


def test_a_method_that_cannot_be_distributed_is_refused_by_name() -> None:
    clash = LeanFullSpec().clash(training(2, 2))
    assert clash is not None and clash.path == "training.devices" and "lean full" in str(clash.message)
    assert LeanFullSpec().clash(training(1, 2)) is None
    assert FullSpec().clash(training(2, 2)) is None


def test_an_arm_may_have_its_own_number_of_devices() -> None:
    full, lora = ArmSpec(method=FullSpec(), devices=2), ArmSpec(method=LoraSpec())
    runs = study(training(1, 2), full, lora).owed()
    assert {run.arm: run.spec.training.devices for run in runs} == {"full": 2, lora.label: 1}


@pytest.mark.parametrize(
    ("budget", "arm", "path"),
    [
        (training(1, 1), ArmSpec(method=FullSpec(), devices=2), "arms.0.devices"),
        (
            training(2, 2),
            ArmSpec(method=FullSpec(), gradient_accumulation_steps=1),
            "arms.0.gradient_accumulation_steps",
        ),
    ],
)
def test_an_arm_that_its_devices_cannot_divide_is_named(budget: TrainingBudget, arm: ArmSpec, path: str) -> None:
    with pytest.raises(ValidationError) as error:
        study(budget, arm)
    assert problem(error)[0] == path


def test_a_searched_batch_size_is_divided_among_the_devices() -> None:
    arm = ArmSpec(method=FullSpec())
    settled = arm.at(Configuration(batch_size=16), training(2, 2, size=16))
    assert (settled.per_device_train_batch_size, settled.gradient_accumulation_steps) == (8, 2)
