"""Whatever a task names is there: facts, rows, metrics, what carries it out, and words on the pages."""

from typing import get_args

from app.domain.data.dataset import ROWS
from app.domain.methods import METHODS
from app.domain.tasks import METRICS, TASKS, Format, MetricName, Task, Unit
from app.words.data.data import FORMATS
from app.words.runs.metrics import UNITS, loss_unit
from worker.engine import tasks as engine


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
