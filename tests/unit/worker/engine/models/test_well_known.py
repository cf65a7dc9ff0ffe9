"""The Lab's architectures are those that transformers builds from the published configurations, without weights."""

import pytest
from transformers import AutoConfig

from app.features.lab.services import lessons
from worker.engine.models.inspect import on_task


@pytest.mark.slow
@pytest.mark.parametrize("name", list(lessons.architectures()))
def test_an_architecture_is_that_of_its_configuration(name: str) -> None:
    known = lessons.architectures()[name]
    described, built = known.model, on_task(AutoConfig.for_model(**known.config), known.task).with_labels(2)
    described = described.with_labels(2)
    assert {p.name: p.shape for p in described.parameters} == {p.name: p.shape for p in built.parameters}
    assert {m.name: m for m in described.linear} == {m.name: m for m in built.linear}
    same = (
        "blocks",
        "behind",
        "head",
        "hidden_size",
        "layers",
        "key_value_heads",
        "key_value_width",
        "encoder_decoder",
    )
    assert [getattr(described, field) for field in same] == [getattr(built, field) for field in same]
    assert described.default_targets.items() <= built.default_targets.items()
