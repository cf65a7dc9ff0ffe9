"""What a method would train in a base model, computed from an inspection."""

import pytest

from app.domain.methods import FullSpec, HeadOnlySpec, LoraSpec
from app.domain.models import ModelFacts
from tests.conftest import TINY_FACTS


def test_trainable_parameters_follow_the_formulas() -> None:
    head = 5 * 33
    assert TINY_FACTS.trainable_parameters(HeadOnlySpec(), 5) == head
    assert TINY_FACTS.trainable_parameters(FullSpec(), 5) == 10_000 + head
    two = LoraSpec(r=4, target_modules=["query", "value"])
    assert TINY_FACTS.trainable_parameters(two, 5) == head + 2 * 4 * (32 + 32)
    assert TINY_FACTS.trainable_parameters(LoraSpec(r=4, target_modules="all-linear"), 5) == head + 3 * 4 * 64
    dora = two.model_copy(update={"use_dora": True})
    assert TINY_FACTS.trainable_parameters(dora, 5) == head + 2 * 4 * 64 + 2 * 32


def test_no_targets_means_what_peft_chooses() -> None:
    assert [m.name.rsplit(".", 1)[-1] for m in TINY_FACTS.targets(LoraSpec())] == ["query", "value"]


@pytest.mark.parametrize("targets", [["query"], ["self.query"], ["encoder.layer.0.attention.self.query"]])
def test_a_target_is_a_name_or_its_end_after_a_dot(targets: list[str]) -> None:
    assert len(TINY_FACTS.targets(LoraSpec(target_modules=targets))) == 1


def test_a_target_that_is_only_part_of_a_name_fits_nothing() -> None:
    problem = TINY_FACTS.unfit(LoraSpec(target_modules=["uery"]))
    assert problem is not None and problem.remedy == 'choose from: query, key, value, or "all-linear"'


def test_an_architecture_that_peft_does_not_know_needs_named_targets() -> None:
    strange = ModelFacts.model_validate(TINY_FACTS.model_dump() | {"model_type": "odd", "default_target_modules": []})
    problem = strange.unfit(LoraSpec())
    assert problem is not None and "PEFT has no default" in problem.message
    assert strange.unfit(LoraSpec(target_modules=["key"])) is None
    assert strange.unfit(FullSpec()) is None
