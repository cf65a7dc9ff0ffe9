"""Previews: a dataset's rows as a base model sees them, made by the estimation process."""

from sqlalchemy.orm import Session

from app.broker.queue import Doorbell
from app.domain.data.previews import PreviewRequest
from app.domain.errors import Conflict, Invalid
from app.domain.messages import _
from app.domain.tasks import TASKS, Task
from app.services.resources import estimates
from app.services.resources.requests import model_fields
from app.store.tables import BaseModelRow, DatasetRow, EstimateRow


def wanted(
    session: Session,
    bell: Doorbell,
    dataset: DatasetRow,
    model: BaseModelRow,
    task: Task | None,
    max_length: int,
    *,
    completion_only_loss: bool = True,
) -> EstimateRow:
    """The preview of a version by a base model's tokenizer; the first request has a worker make it.

    `task` defaults to the first that can use the rows. Raises Conflict unless version and model are ready, Invalid for
    a task that cannot use the rows.
    """
    if dataset.status != "ready":
        raise Conflict(
            _(
                "%(reference)s is %(status)s. Only a version that is ready can be previewed.",
                reference=dataset.reference,
                status=dataset.status,
            )
        )
    if model.status != "ready":
        raise Conflict(
            _(
                "The base model %(name)r is %(status)s. Only one that is ready can be used for a preview.",
                name=model.name,
                status=model.status,
            )
        )
    form = dataset.facts.format
    task = task or dataset.facts.tasks[0]
    if form not in TASKS[task].formats:
        able = " or ".join(dataset.facts.tasks)
        raise Invalid.field(
            "task",
            _("%(task)s does not train on rows of %(format)s", task=task, format=form),
            _("Use this dataset for: %(tasks)s", tasks=able),
        )
    request = PreviewRequest(
        **model_fields(model),
        task=task,
        dataset_file=dataset.file,
        dataset_format=form,
        dataset_hash=dataset.content_hash,
        max_length=max_length,
        completion_only_loss=completion_only_loss,
    )
    return estimates.wanted(session, bell, request)
