"""What does not apply to tasks that read images: refused with a reason, or not proposed."""

from typing import Any

import pytest

from app.domain.data.dataset import DatasetFacts
from app.domain.errors import Invalid
from app.domain.methods import FullSpec, LoraSpec
from app.domain.models.base_model import ModelFacts
from app.domain.resources.estimate import EstimateRequest
from app.domain.resources.memory_map import MapSpec
from app.domain.resources.savings import saving_options
from app.domain.runs.spec import RunSpec
from app.domain.runs.together import can_train_together
from app.domain.runs.training import TrainingArguments
from app.services.models import compatibility
from app.services.resources import memory_maps
from tests.support.tiny import images as tiny_images
from worker.engine.models.inspect import facts_of

COUNTS: dict[Any, int] = {"train": 8, "validation": 4, "test": 4}
ROWS = DatasetFacts(format="labelled-images", labels=["a", "b"], counts=COUNTS, content_hash="h")


def spec(**training: Any) -> RunSpec:
    arguments = TrainingArguments(**training)
    return RunSpec(base_model="m", dataset="d", task="image-classification", method=LoraSpec(), training=arguments)


@pytest.fixture(scope="module")
def facts() -> ModelFacts:
    return facts_of(tiny_images.config())


@pytest.mark.parametrize(
    ("training", "why"),
    [
        ({"packing": True}, "Rows of image-classification cannot be packed"),
        ({"padding_free": True}, "Images have one size, so their batches have no padding"),
        ({"compile_blocks": True}, "Compiled blocks were not tested with image-classification"),
    ],
)
def test_training_arguments_for_texts_are_refused(training: dict[str, Any], why: str, facts: ModelFacts) -> None:
    [problem] = compatibility._data_problems("d", ROWS, facts, spec(**training))
    assert (problem.path, problem.message) == (f"training.{next(iter(training))}", why)


def test_a_plain_run_is_compatible_and_trains_alone(facts: ModelFacts) -> None:
    assert list(compatibility._data_problems("d", ROWS, facts, spec())) == []
    assert not can_train_together(spec())
    assert can_train_together(spec().model_copy(update={"task": "sequence-classification"}))


def test_no_shorter_texts_are_proposed() -> None:
    request = EstimateRequest(
        location="m", task="image-classification", labels=2, method=FullSpec(), training=TrainingArguments(),
        device="cuda", bf16=False,
    )  # fmt: skip
    names = {option.name for option in saving_options(request)}
    assert "shorter" not in names and "checkpointing" in names
    texts = request.model_copy(update={"task": "sequence-classification"})
    assert "shorter" in {option.name for option in saving_options(texts)}


def test_a_map_over_lengths_is_refused(facts: ModelFacts) -> None:
    with pytest.raises(Invalid, match="have one size, so there are no lengths"):
        memory_maps._methods(facts, MapSpec(base_model="m", task="image-classification"))
