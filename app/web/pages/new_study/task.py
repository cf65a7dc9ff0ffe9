"""What a base model and a dataset can do together: the tasks, and by which metrics a verdict on one can be reached."""

from dataclasses import dataclass

from app.domain.data.dataset import DatasetFacts
from app.domain.models.base_model import ModelFacts
from app.domain.tasks import METRICS, TASKS, MetricName, Task, generates


@dataclass(frozen=True)
class TaskChoices:
    """The tasks that are possible, and why others are not that the rows could serve."""

    able: tuple[Task, ...]
    unable: tuple[tuple[Task, str], ...] = ()


def task_choices(model: ModelFacts | None, data: DatasetFacts | None) -> TaskChoices:
    """What the rows can serve and the model can do; what has not been chosen yet rules nothing out."""
    served = data.tasks if data else list(TASKS)
    if model is None:
        return TaskChoices(tuple(served))
    return TaskChoices(
        tuple(task for task in served if task in model.tasks),
        tuple((task, model.unable.get(task, "")) for task in served if task not in model.tasks),
    )


def metric_choices(task: Task, data: DatasetFacts | None) -> tuple[MetricName, ...]:
    """Metrics that a verdict can rest on, the task's own first; plain texts have no prompt to generate from."""
    plain = data is not None and data.format == "text"
    able = [name for name in TASKS[task].metrics if METRICS[name].per_item and not (plain and generates(name))]
    return tuple(sorted(able, key=lambda name: name != TASKS[task].metric))
