"""A run's train time from past runs that are like it."""

from collections.abc import Sequence
from statistics import fmean

from app.domain.runs.spec import RunSpec
from app.domain.runs.training import TrainingBudget
from app.store.resources.past_runs import PastRun


def similar_train_seconds(spec: RunSpec, past: Sequence[PastRun]) -> tuple[float | None, str]:
    """A run's train time and its device, from runs of the same method, batch size and max length on the newest device.
    Proportional to the epochs and to the share of the training rows."""
    training = spec.training
    similar = [
        run
        for run in past
        if run.spec.method.kind == spec.method.kind
        and run.spec.training.per_device_train_batch_size == training.per_device_train_batch_size
        and run.spec.training.max_length == training.max_length
        and run.spec.training.max_steps is None
    ]
    if not similar or training.max_steps is not None:
        return None, ""
    device = similar[0].device_name
    seconds = fmean(
        run.train_seconds * passes(training) / passes(run.spec.training) for run in similar if run.device_name == device
    )
    return seconds, device


def passes(training: TrainingBudget) -> float:
    return training.num_train_epochs * training.train_fraction
