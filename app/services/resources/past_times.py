"""How long training took in runs like one that is planned: what is told where no estimate of its time is there."""

from collections.abc import Sequence
from statistics import fmean

from app.domain.runs.spec import RunSpec
from app.store.queries.past_runs import PastRun


def train_seconds(spec: RunSpec, past: Sequence[PastRun]) -> tuple[float | None, str]:
    """Of a run, and on which device: from runs of the same method in batches of the same size and length on the newest
    device.

    It grows with the epochs.
    """
    wanted = spec.training
    like = [
        run
        for run in past
        if run.spec.method.kind == spec.method.kind
        and run.spec.training.per_device_train_batch_size == wanted.per_device_train_batch_size
        and run.spec.training.max_length == wanted.max_length
        and run.spec.training.max_steps is None
    ]
    if not like or wanted.max_steps is not None:
        return None, ""
    device = like[0].device_name
    seconds = fmean(
        run.train_seconds * wanted.num_train_epochs / run.spec.training.num_train_epochs
        for run in like
        if run.device_name == device
    )
    return seconds, device
