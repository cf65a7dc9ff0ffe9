"""A dataset as a base model will see it, over HTTP: tokens, what is learnt, how long rows are."""

from typing import Annotated, Self

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from app.domain.data.previews import Preview, PreviewRequest
from app.domain.errors import Conflict, NotFound
from app.domain.messages import _
from app.domain.names import Name
from app.domain.resources.memory_fit import State
from app.domain.runs.training import TrainingArguments
from app.domain.tasks import Task
from app.services import previews
from app.services.resources.device_fit import state_of
from app.store.queries import base_models, estimates
from app.store.tables import EstimateRow
from app.web.api.datasets import find
from app.web.http.dependencies import Bell, Db
from app.web.http.errors import problems
from app.web.http.waiting import Wait, ended, partial

router = APIRouter(prefix="/datasets", tags=["datasets"])

USUAL_LENGTH: int = TrainingArguments.model_fields["max_length"].default


class PreviewOut(BaseModel):
    """Some rows as a model sees them, and the lengths of all."""

    estimate_id: int
    task: Task
    max_length: int
    state: State
    message: str
    """A sentence, where it failed."""
    preview: Preview | None
    """Once it is ready."""

    @classmethod
    def of(cls, row: EstimateRow) -> Self:
        """From the store."""
        asked = PreviewRequest.model_validate(row.request_json)
        known = {"task": asked.task, "max_length": asked.max_length, "preview": row.preview}
        return cls(estimate_id=row.id, state=state_of(row), message=row.message, **known)


@router.get(
    "/{name}/preview",
    operation_id="previewDataset",
    responses=partial(PreviewOut) | problems(404, 409, 422),
)
async def preview(
    response: Response,
    db: Db,
    bell: Bell,
    name: Name,
    model: Annotated[
        str, Query(max_length=200, description="A registered base model, whose tokenizer reads the rows.")
    ],
    task: Annotated[Task | None, Query(description="The first that the rows can serve unless said.")] = None,
    max_length: Annotated[int, Query(ge=2, le=131_072)] = USUAL_LENGTH,
    completion_only_loss: bool = True,
    wait: Wait = 0,
) -> PreviewOut:
    """Five rows token by token (special ones, those that the loss is taken of, how many `max_length` keeps), and how
    many rows have which length. 200 once it is worked out, 202 before that."""

    def ask() -> int:
        with db.transaction() as session:
            row, known = find(session, name), base_models.by_name(session, model)
            if known is None:
                raise NotFound(_("There is no base model %(name)r.", name=model))
            if row.status != "ready":
                raise Conflict(
                    _(
                        "%(reference)s is %(status)s. Only a version that is ready can be previewed.",
                        reference=row.reference,
                        status=row.status,
                    )
                )
            chosen = task or row.facts.tasks[0]
            only = completion_only_loss
            return previews.wanted(session, bell, row, known, chosen, max_length, completion_only_loss=only).id

    asked = await run_in_threadpool(ask)
    found = await ended(
        db, lambda session: PreviewOut.of(estimates.get(session, asked)), lambda out: out.state == "working", wait
    )
    response.status_code = 202 if found.state == "working" else 200
    return found
