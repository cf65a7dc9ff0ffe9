"""Default learning rates by width and method."""

import pytest

from app.domain.methods import METHODS, FullSpec, LoraSpec
from app.domain.methods.base import default_rate
from app.domain.runs.spec import RunSpec
from app.domain.studies.arms import ArmSpec
from app.domain.studies.spec import StudySpec


@pytest.mark.parametrize(
    ("width", "full", "lora"),
    [(4096, 2.9e-5, 2.9e-4), (2048, 4.9e-5, 4.9e-4), (768, 1.1e-4, 1.1e-3), (384, 1.8e-4, 1.8e-3)],
)
def test_rates_fall_with_width_and_loras_is_ten_times_that_of_full(width: int, full: float, lora: float) -> None:
    assert (FullSpec().learning_rate(width=width), LoraSpec().learning_rate(width=width)) == (full, lora)


def test_a_model_that_is_narrower_than_any_that_was_tried_gets_no_higher_rate() -> None:
    assert default_rate(10, 32) == default_rate(10, 384) == default_rate(10)


def test_every_methods_default_is_a_rate_at_any_width() -> None:
    for facts in METHODS.values():
        assert 1e-6 < default_rate(facts.rate_multiple, 16_384) < default_rate(facts.rate_multiple, 384) < 0.05


def test_a_rate_that_is_given_stays() -> None:
    spec = RunSpec(base_model="m", dataset="d", method=LoraSpec())
    assert spec.with_default_rate(4096).learning_rate == 2.9e-4
    assert spec.with_default_rate(4096).with_default_rate(384).learning_rate == 2.9e-4


def test_a_default_name_states_the_rate_for_the_width() -> None:
    arms = [ArmSpec(method=LoraSpec()), ArmSpec(method=LoraSpec(), learning_rate=1e-3), ArmSpec(method=FullSpec())]
    study = StudySpec(name="S", base_model="m", dataset="d", arms=arms, reference="LoRA r=8 lr=0.0018")
    filled = study.with_default_rates(4096)
    assert [arm.title for arm in filled.arms] == ["LoRA r=8 lr=0.00029", "LoRA r=8 lr=0.001", "full"]
    assert [arm.learning_rate for arm in filled.arms] == [2.9e-4, 1e-3, 2.9e-5]
    assert filled.reference == "LoRA r=8 lr=0.00029"
    assert filled.with_default_rates(384) == filled


def test_preference_tuning_has_a_twentieth_of_the_rates() -> None:
    """In a run and in a study, unless a rate is given."""
    method = {"kind": "lora"}
    run = RunSpec.model_validate({"base_model": "a", "dataset": "b", "task": "preference", "method": method})
    assert run.with_default_rate(4096).learning_rate == 1.4e-5
    arms = [{"method": {"kind": "full"}}, {"method": method, "learning_rate": 3e-4}]
    study = StudySpec.model_validate(
        {"name": "n", "base_model": "a", "dataset": "b", "task": "preference", "arms": arms}
    )
    assert [arm.learning_rate for arm in study.with_default_rates(4096).arms] == [1.4e-6, 3e-4]
