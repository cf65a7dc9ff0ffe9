"""Every task has its facts, files and words, and says what it refuses."""

from types import SimpleNamespace
from typing import Any, get_args

import pytest

from app.domain.data.dataset import ROWS, DatasetFacts
from app.domain.errors import Invalid
from app.domain.methods import METHODS, FullSpec, LoraSpec
from app.domain.models.base_model import ModelFacts
from app.domain.resources.estimate import EstimateRequest
from app.domain.resources.memory_map import MapSpec
from app.domain.resources.savings import saving_options
from app.domain.runs.spec import RunSpec
from app.domain.runs.status import RunStatus
from app.domain.runs.together import can_train_together
from app.domain.runs.training import TrainingArguments
from app.domain.tasks import METRICS, TASKS, Format, MetricName, Task, Unit
from app.features.judging.services import judgements
from app.features.shipping.services import parity_checks
from app.services.models import compatibility
from app.services.resources import memory_maps
from app.store.runs import artifacts
from app.words.data.data import FORMATS
from app.words.runs.metrics import UNITS, loss_unit
from tests.support.tiny import images as tiny_images
from worker.engine import tasks as engine
from worker.engine.models.inspect import facts_of


def test_every_task_has_its_facts_and_its_file_and_methods_name_no_other() -> None:
    assert list(TASKS) == list(engine.TASKS) == list(get_args(Task))
    assert all(facts.name == name for name, facts in TASKS.items())
    assert {task for facts in METHODS.values() for task in facts.tasks} == set(TASKS)


def test_a_tasks_file_has_all_that_the_protocol_asks_for() -> None:
    asked = {name for name in (*vars(engine.TaskFile), *engine.TaskFile.__annotations__) if not name.startswith("_")}
    assert {"AUTO", "incompatibility", "encode", "collate", "loss", "evaluate"} <= asked
    for task, file in engine.TASKS.items():
        assert [name for name in asked if not hasattr(file, name)] == [], task


def test_every_format_has_its_row_type_its_task_and_its_words() -> None:
    assert set(ROWS) == set(FORMATS) == set(get_args(Format)) == {f for task in TASKS.values() for f in task.formats}
    assert all({"item", "split"} <= set(row._fields) for row in ROWS.values())


def test_every_unit_has_its_task_and_its_words() -> None:
    assert set(UNITS) == set(get_args(Unit)) == {task.unit for task in TASKS.values()}
    assert all(loss_unit(task) for task in TASKS)


def test_every_metric_is_defined_and_belongs_to_a_task() -> None:
    assert list(METRICS) == list(get_args(MetricName))
    assert {metric for task in TASKS.values() for metric in task.metrics} == set(METRICS)
    for task in TASKS.values():
        assert task.metric in task.metrics and METRICS[task.metric].per_item


HEADS = ["sequence-classification", "token-classification", "image-classification"]


@pytest.mark.parametrize("task", [*HEADS, "sentence-embeddings", "preference"])
def test_a_judge_is_refused_with_the_reason_of_the_task(task: str) -> None:
    study: Any = SimpleNamespace(id=7, spec=SimpleNamespace(task=task))
    refused = judgements.refusal(None, study)  # type: ignore[arg-type]
    expected = "Study 7 classifies: its answers are labels" if task in HEADS else "The runs of study 7 generate no text"
    assert refused is not None and str(refused.fields[0].message).startswith(expected)


@pytest.mark.parametrize("task", [*HEADS, "sentence-embeddings", "preference"])
def test_a_parity_check_is_refused_with_the_reason_of_the_task(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "predictions_of", lambda _session, runs: dict.fromkeys(runs))
    run: Any = SimpleNamespace(id=7, imported=None, status=RunStatus.SUCCEEDED, spec=SimpleNamespace(task=task))
    refused = parity_checks.refusal(None, run)  # type: ignore[arg-type]
    expected = "Run 7 classifies with a head" if task in HEADS else "Run 7 generates no text"
    assert refused is not None and str(refused.fields[0].message).startswith(expected)


COUNTS: dict[Any, int] = {"train": 8, "validation": 4, "test": 4}
IMAGE_ROWS = DatasetFacts(format="labelled-images", labels=["a", "b"], counts=COUNTS, content_hash="h")


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
    [problem] = compatibility._data_problems("d", IMAGE_ROWS, facts, spec(**training))
    assert (problem.path, problem.message) == (f"training.{next(iter(training))}", why)


def test_a_plain_run_is_compatible_and_trains_alone(facts: ModelFacts) -> None:
    assert list(compatibility._data_problems("d", IMAGE_ROWS, facts, spec())) == []
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
