"""Datasets over REST: create a version from an upload, list, get, delete."""

from datetime import datetime
from typing import Annotated, Any, Self

from fastapi import APIRouter, Body, Query, Response
from pydantic import AfterValidator
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from app.domain.accounts.ownership import Visibility
from app.domain.data.dataset import DatasetFacts
from app.domain.data.findings import Finding
from app.domain.data.guesses.mapping import ColumnMapping
from app.domain.data.previews import Preview, PreviewRequest
from app.domain.data.splitting import Splitting
from app.domain.data.versions import DatasetRequest, DatasetState, reference_in
from app.domain.errors import Conflict
from app.domain.messages import _
from app.domain.resources.estimate import EstimateState
from app.domain.runs.training import TrainingArguments
from app.domain.tasks import Task
from app.domain.validation import Name
from app.services.data import datasets as dataset_service
from app.services.data import previews
from app.services.ownership import deletion
from app.store.data import queries as datasets
from app.store.models import queries as base_models
from app.store.resources import estimates
from app.store.tables import DatasetRow, EstimateRow
from app.web.api.answer import Answer
from app.web.api.examples import DATASET
from app.web.http.dependencies import Bell, Db, Reading, Store
from app.web.http.errors import problems
from app.web.http.idempotency import OnceByHeader
from app.web.http.waiting import Wait, ended, partial
from app.words.data.findings import why_unavailable, with_message, with_messages

router = APIRouter(prefix="/datasets", tags=["datasets"])

DEFAULT_LENGTH: int = TrainingArguments.model_fields["max_length"].default


class DatasetListed(Answer):
    """A version of a dataset in a list."""

    name: str
    version: int
    reference: str
    """`NAME@VERSION`, which names exactly this version in a spec; `NAME` means the newest that is ready."""
    title: str
    status: DatasetState
    message: str
    """Why it is blocked or failed."""
    progress: float
    facts: DatasetFacts | None
    """None unless it is ready."""
    created_at: datetime
    owner_id: int | None
    """The user to whom it belongs; null without login."""
    visibility: Visibility
    """`private`: its owner and admins see it; `team`: all users."""

    @classmethod
    def from_row(cls, row: DatasetRow, **derived: Any) -> Self:
        facts = row.facts if row.status == "ready" else None
        message = why_unavailable(row.message, row.blocked_by)
        return cls.from_object(row, facts=facts, message=message, **derived)


class DatasetOut(DatasetListed):
    """A version of a dataset with its origin, mapping and findings."""

    upload_id: int | None
    """None if a program made the rows."""
    mapping: ColumnMapping | None
    splitting: Splitting | None
    findings: list[Finding]
    """Blocking ones first."""
    runs: int
    """Runs that use it."""
    studies: int
    """Studies that use it."""

    @classmethod
    def of(cls, session: Session, row: DatasetRow) -> Self:
        uses = datasets.used_by(session, row.id)
        findings = [with_message(finding) for finding in row.findings]
        return cls.from_row(row, findings=findings, runs=uses.runs, studies=uses.studies)


@router.post("", status_code=202, operation_id="makeDataset", responses=problems(404, 409, 422))
def make_dataset(
    db: Db, bell: Bell, once: OnceByHeader, body: Annotated[DatasetRequest, Body(openapi_examples=DATASET)]
) -> DatasetOut:
    """Have a worker create a dataset from an upload, or its next version. The same request again returns the same
    version."""
    with db.transaction() as session:
        return once.keep(session, DatasetOut.of(session, dataset_service.prepare(session, bell, body)))


@router.get("", operation_id="listDatasets")
def list_datasets(session: Reading) -> list[DatasetListed]:
    """Every version of every dataset, by name, the newest version first."""
    return [DatasetListed.from_row(row) for row in datasets.all_versions(session)]


@router.get("/{name}", operation_id="getDataset", responses=problems(404, 422))
async def get_dataset(db: Db, name: Name, wait: Wait = 0) -> DatasetOut:
    """A version of a dataset (`NAME@2`), or the newest of a name: labels, splits, findings."""
    return await ended(
        db, lambda s: DatasetOut.of(s, datasets.find(s, name)), lambda version: version.status == "preparing", wait
    )


@router.delete("/{name}", status_code=204, operation_id="deleteDataset", responses=problems(404, 409, 422))
def delete_dataset(db: Db, files: Store, name: Name) -> None:
    """Delete a version of a dataset; 409 while runs or studies use it, or if the name alone is ambiguous."""
    with db.transaction() as session:
        row = datasets.find(session, name)
        others = len(datasets.versions(session, row.name))
        if reference_in(name).version is None and others > 1:
            raise Conflict(
                _(
                    "%(name)s has %(others)s versions. Name one, such as %(reference)s.",
                    name=name,
                    others=others,
                    reference=row.reference,
                )
            )
        deletion.delete_dataset(session, files, row.id)


class PreviewOut(Answer):
    """Rows as a base model sees them, and the lengths of all rows."""

    estimate_id: int
    task: Task
    max_length: int
    state: EstimateState
    message: str
    """Why it failed."""
    preview: Annotated[Preview | None, AfterValidator(with_messages)]
    """None until it is ready."""

    @classmethod
    def of(cls, row: EstimateRow) -> Self:
        request = PreviewRequest.model_validate(row.request_json)
        return cls.from_object(row, estimate_id=row.id, task=request.task, max_length=request.max_length)


@router.get("/{name}/preview", operation_id="previewDataset", responses=partial(PreviewOut) | problems(404, 409, 422))
async def preview(
    response: Response,
    db: Db,
    bell: Bell,
    name: Name,
    model: Annotated[str, Query(max_length=200, description="A registered base model; its tokenizer reads the rows.")],
    task: Annotated[Task | None, Query(description="Default: the first task that can use the rows.")] = None,
    max_length: Annotated[int, Query(ge=2, le=131_072)] = DEFAULT_LENGTH,
    completion_only_loss: bool = True,
    wait: Wait = 0,
) -> PreviewOut:
    """Five rows token by token (special tokens, tokens in the loss, tokens kept by `max_length`), findings about the
    tokens in the loss, and the distribution of lengths. 200 once it is ready, 202 before."""

    def request() -> int:
        with db.transaction() as session:
            base_model = base_models.get(session, model)
            row = datasets.find(session, name)
            only = completion_only_loss
            return previews.wanted(session, bell, row, base_model, task, max_length, completion_only_loss=only).id

    estimate_id = await run_in_threadpool(request)
    answer = await ended(
        db, lambda session: PreviewOut.of(estimates.get(session, estimate_id)), lambda out: out.state == "working", wait
    )
    response.status_code = 202 if answer.state == "working" else 200
    return answer
