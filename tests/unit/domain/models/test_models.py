"""What a method would train in a base model, computed from an inspection."""

import pytest

from app.domain.methods import FullSpec, HeadOnlySpec, Ia3Spec, LoraSpec, PrefixSpec
from app.domain.models.adaptations import usual
from app.domain.models.architecture import LinearFacts
from app.domain.models.base_model import ModelFacts
from app.domain.tasks import Task
from tests.conftest import TINY_FACTS

TASK: Task = "sequence-classification"
TINY = TINY_FACTS.tasks[TASK]
HEAD = 5 * 33


def test_trainable_parameters_follow_the_formulas() -> None:
    def count(spec: FullSpec | HeadOnlySpec | LoraSpec) -> int | None:
        return TINY_FACTS.trainable_parameters(spec, TASK, 5)

    assert count(HeadOnlySpec()) == HEAD
    assert count(FullSpec()) == TINY_FACTS.parameters + HEAD
    two = LoraSpec(r=4, target_modules=["query", "value"])
    assert count(two) == HEAD + 2 * 4 * (32 + 32)
    every = 5 * 4 * (32 + 32) + 2 * 4 * (32 + 64)
    assert count(LoraSpec(r=4, target_modules="all-linear")) == HEAD + every
    assert count(two.model_copy(update={"use_dora": True})) == HEAD + 2 * 4 * 64 + 2 * 32
    assert count(two.model_copy(update={"bias": "lora_only"})) == HEAD + 2 * 4 * 64 + 2 * 32


def test_what_does_not_fit_is_not_counted() -> None:
    assert TINY_FACTS.trainable_parameters(LoraSpec(target_modules=["q_proj"]), TASK, 5) is None
    assert TINY_FACTS.trainable_parameters(PrefixSpec(), TASK, 5) is None
    assert TINY_FACTS.trainable_parameters(LoraSpec(), "causal-lm", 0) is None


def test_all_linear_layers_but_the_head_are_the_default() -> None:
    assert LoraSpec().targets(TINY) == TINY.linear
    assert not any(TINY.in_head(m.name) for m in TINY.linear)


@pytest.mark.parametrize("targets", ["peft-default", None])
def test_what_peft_chooses_has_a_name(targets: str | None) -> None:
    spec = LoraSpec.model_validate({"target_modules": targets})
    assert spec.target_modules == "peft-default"
    assert [m.name.rsplit(".", 1)[-1] for m in spec.targets(TINY)] == ["query", "value"]


def test_a_narrow_matrix_does_not_limit_the_rank_on_all_linear_layers() -> None:
    gate = LinearFacts(name="bert.encoder.layer.0.gate", in_features=32, out_features=1, bias=False)
    gated = TINY.model_copy(update={"linear": [*TINY.linear, gate]})
    assert LoraSpec(r=8).incompatibility(gated) is None
    assert LoraSpec(r=4).advice(gated) == []
    for spec in (LoraSpec(r=8, target_modules=["gate"]), LoraSpec(r=8, init_lora_weights="pissa")):
        problem = spec.incompatibility(gated)
        assert problem is not None and (problem.path, problem.remedy) == ("r", "Use at most 1")
    too_high = LoraSpec(r=33).incompatibility(gated)
    assert too_high is not None and too_high.remedy == "Use at most 32"


@pytest.mark.parametrize("targets", [["query"], ["self.query"], ["bert.encoder.layer.0.attention.self.query"]])
def test_a_target_is_a_name_or_its_end_after_a_dot(targets: list[str]) -> None:
    assert len(LoraSpec(target_modules=targets).targets(TINY)) == 1


def test_a_pattern_is_for_whole_names() -> None:
    assert [m.name for m in LoraSpec(target_modules=r".*\.(query|key)").targets(TINY)] == [
        "bert.encoder.layer.0.attention.self.query", "bert.encoder.layer.0.attention.self.key"
    ]  # fmt: skip
    assert LoraSpec(target_modules="query").targets(TINY) == []


def test_a_target_that_is_only_part_of_a_name_fits_nothing() -> None:
    problem = TINY_FACTS.incompatibility(LoraSpec(target_modules=["uery"]), TASK)
    assert problem is not None
    assert problem.message == "BertForSequenceClassification has no linear module 'uery'"
    assert problem.remedy == 'Choose from: query, key, value, dense, or "all-linear"'


def test_an_architecture_that_peft_does_not_know_needs_named_targets() -> None:
    odd = TINY.model_copy(update={"model_type": "odd", "default_targets": {}})
    strange = ModelFacts.model_validate(TINY_FACTS.model_copy(update={"tasks": {TASK: odd}}).model_dump())
    problem = strange.incompatibility(LoraSpec(target_modules="peft-default"), TASK)
    assert problem is not None and problem.message == "PEFT has no default target modules for odd"
    assert strange.incompatibility(LoraSpec(target_modules=["key"]), TASK) is None
    assert strange.incompatibility(LoraSpec(), TASK) is None
    assert strange.incompatibility(FullSpec(), TASK) is None
    assert usual("ia3", odd) == Ia3Spec(target_modules="all-linear")


def test_of_a_task_that_the_model_cannot_do_nothing_is_said_twice() -> None:
    assert TINY_FACTS.incompatibility(LoraSpec(target_modules=["nowhere"]), "causal-lm") is None


def test_what_a_method_touches_are_modules_of_the_model() -> None:
    attention = "bert.encoder.layer.0.attention.self"
    assert LoraSpec(target_modules=["query", "value"]).touches(TINY) == [
        f"{attention}.query",
        f"{attention}.value",
        "classifier",
    ]
    assert HeadOnlySpec().touches(TINY) == ["classifier"]
    assert Ia3Spec(target_modules=["key"], feedforward_modules=["key"]).touches(TINY) == [
        f"{attention}.key", "classifier"
    ]  # fmt: skip


def test_a_head_is_filled_in_with_its_labels() -> None:
    assert TINY.with_labels(7).total - TINY.with_labels(2).total == 5 * 33
    assert all(isinstance(m, LinearFacts) for m in TINY.linear)
