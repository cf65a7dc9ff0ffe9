"""A run: one fine-tuning, everything that decides its outcome on a given device."""

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.domain.messages import _, choose_from
from app.domain.methods import MethodSpec
from app.domain.runs.capabilities import Capability
from app.domain.runs.training import TrainingArguments
from app.domain.tasks import DEFAULT_TASK, TASKS, MetricName, Task
from app.domain.validation import Name, invalid_field


class RunSpec(BaseModel):
    """Everything that decides a run's outcome on a given device."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_model: Name = Field(max_length=200)
    """Name of a registered base model."""
    dataset: Name = Field(max_length=200)
    """Name of a registered dataset."""
    task: Task = DEFAULT_TASK
    method: MethodSpec
    training: TrainingArguments = TrainingArguments()
    metric: MetricName | None = None
    """What a verdict rests on; None takes the task's own."""
    general_text: Name | None = Field(default=None, max_length=200)
    """Name of a registered dataset of plain texts on which forgetting is measured: language models only."""

    @model_validator(mode="after")
    def _metric_is_the_tasks(self) -> "RunSpec":
        check_metric(self.task, self.metric, self.general_text)
        return self

    @property
    def needed(self) -> frozenset[Capability]:
        """Capabilities that a worker needs."""
        return self.method.needed | self.training.needed

    @property
    def learning_rate(self) -> float:
        """The peak learning rate: its own, which a queued run always has, or its method's default for a narrow base
        model."""
        return self.method.learning_rate(self.training.learning_rate, factor=TASKS[self.task].rate_factor)

    def with_default_rate(self, width: int | None) -> "RunSpec":
        """With its method's default for a base model of this width, unless it has a learning rate."""
        rate = self.method.learning_rate(self.training.learning_rate, width, TASKS[self.task].rate_factor)
        return self.model_copy(update={"training": self.training.model_copy(update={"learning_rate": rate})})

    @property
    def verdict_metric(self) -> MetricName:
        """The metric that a verdict rests on."""
        return self.metric or TASKS[self.task].metric


def check_metric(task: Task, metric: MetricName | None, general_text: str | None) -> None:
    """Raise a field error unless the metric can decide a verdict on the task, and `general_text` belongs to a
    language model."""
    able = TASKS[task].scored
    if metric is not None and metric not in able:
        raise invalid_field(
            "metric",
            _("The metric %(metric)s cannot decide a verdict on %(task)s", task=task, metric=metric),
            choose_from(able),
        )
    if general_text is not None and not TASKS[task].forgets_as:
        raise invalid_field(
            "general_text",
            _("Forgetting is measured on language models, not on %(task)s", task=task),
            _("Leave it out"),
        )
