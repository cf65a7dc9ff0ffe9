"""Training arguments that do not work with a task whose loss compares the rows of a batch (`TaskFacts.in_batch`)."""

from app.domain.errors import FieldError
from app.domain.messages import _
from app.domain.methods import AnyMethod
from app.domain.runs.training import TrainingBudget
from app.domain.tasks import TASKS, Task


def clash_of(method: AnyMethod, task: Task, training: TrainingBudget) -> FieldError | None:
    """Training arguments that do not work with a method or a task, or None."""
    return method.clash(training) or in_batch_problem(task, training)


def in_batch_problem(task: Task, training: TrainingBudget) -> FieldError | None:
    """What divides the batch of an optimizer step, or leaves nothing to compare in it; None for every other task."""
    if not TASKS[task].in_batch:
        return None
    if training.devices > 1 or training.gradient_accumulation_steps > 1:
        name = "devices" if training.devices > 1 else "gradient_accumulation_steps"
        what = _(
            "The loss of %(task)s compares the rows of a batch, so several small batches are not one large batch",
            task=task,
        )
        return FieldError(
            f"training.{name}", what, _("Set it to 1; gradient_checkpointing makes room for a larger batch")
        )
    if training.per_device_train_batch_size == 1:
        what = _("The loss of %(task)s compares the rows of a batch, and a batch of one row has no other", task=task)
        return FieldError("training.per_device_train_batch_size", what, _("Set it to at least 2, better 32 or more"))
    return None
