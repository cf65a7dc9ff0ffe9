"""Fine-tuning jobs in OpenAI's form: create, list, get, cancel; events and checkpoints."""

import re
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel
from sqlalchemy.orm import Session

from app.domain.errors import NotFound
from app.domain.messages import _
from app.domain.runs.status import RunStatus
from app.domain.tasks import TASKS
from app.features.openai_jobs import queries as jobs
from app.features.openai_jobs import service as fine_tuning
from app.features.openai_jobs.api.events import EventList, JobEvents
from app.features.openai_jobs.api.files import result_file
from app.features.openai_jobs.errors import openai_problems
from app.features.openai_jobs.rules import JobError, JobRequest
from app.features.openai_jobs.tables import FineTuningJobRow
from app.store.data import queries as datasets
from app.store.runs import queries as runs
from app.store.tables import RunRow
from app.web.http.dependencies import Bell, Config, Db, Reading
from app.web.http.idempotency import OnceByHeader
from app.words.data.findings import why_unavailable
from app.words.i18n import stored

router = APIRouter(prefix="/fine_tuning/jobs", tags=["openai"])

JOB = re.compile(r"ftjob-([0-9]{1,9})")
JobId = Annotated[str, "Such as ftjob-3."]
After = Annotated[str, Query(description="The id of the last one of the page before.")]
Limit = Annotated[int, Query(ge=1, le=100)]
Number = int | float | Literal["auto"]


class JobHyperparameters(BaseModel):
    """As they were chosen, or once there is a run, as it has them."""

    n_epochs: Number
    batch_size: Number
    learning_rate_multiplier: Number


class PreferenceJobHyperparameters(JobHyperparameters):
    """The same of DPO."""

    beta: Number


class SupervisedOut(BaseModel):
    """`method.supervised`."""

    hyperparameters: JobHyperparameters


class DpoOut(BaseModel):
    """`method.dpo`."""

    hyperparameters: PreferenceJobHyperparameters


class JobMethodOut(BaseModel):
    """The method, with the hyperparameters of its type."""

    type: Literal["supervised", "dpo"]
    supervised: SupervisedOut | None = None
    dpo: DpoOut | None = None

    @classmethod
    def of(cls, chosen: JobHyperparameters) -> Self:
        """By its hyperparameters."""
        if isinstance(chosen, PreferenceJobHyperparameters):
            return cls(type="dpo", dpo=DpoOut(hyperparameters=chosen))
        return cls(type="supervised", supervised=SupervisedOut(hyperparameters=chosen))


class InVezna(BaseModel):
    """What a job is in Vezna; not a part of OpenAI's form."""

    dataset: str | None
    """As a spec names it."""
    run_id: int | None
    run_url: str | None
    compare_url: str | None
    """The page that compares the run with others on the same data."""


class Job(BaseModel):
    """A job."""

    id: str
    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    created_at: int
    """Seconds since 1970, as every time here."""
    finished_at: int | None
    estimated_finish: int | None
    status: Literal["validating_files", "queued", "running", "paused", "succeeded", "failed", "cancelled"]
    model: str
    """The base model."""
    fine_tuned_model: str | None
    """`run-31`: the name under which `vezna serve 31` offers it. Null until the job has succeeded."""
    organization_id: Literal["vezna"] = "vezna"
    training_file: str
    validation_file: str | None
    result_files: list[str]
    """Of a job that has succeeded, a CSV file of step metrics."""
    trained_tokens: int | None
    seed: int
    error: JobError | None
    hyperparameters: JobHyperparameters
    method: JobMethodOut
    metadata: dict[str, str] | None
    integrations: list[Any] = []
    vezna: InVezna

    @classmethod
    def of(cls, session: Session, job: FineTuningJobRow, request: Request) -> Self:
        run = runs.find(session, job.run_id) if job.run_id is not None else None
        dataset, base = datasets.by_id(session, job.dataset_id), str(request.base_url).rstrip("/")
        sent, finished = job.request, run.finished_at if run else job.finished_at
        succeeded = run is not None and run.status == RunStatus.SUCCEEDED
        chosen = _hyperparameters(sent, run)
        return cls(
            id=f"ftjob-{job.id}",
            created_at=_seconds(job.created_at),
            finished_at=_seconds(finished) if finished else None,
            estimated_finish=None,
            status=_status(job, run),
            model=sent.model,
            fine_tuned_model=f"run-{run.id}" if run and succeeded else None,
            training_file=sent.training_file,
            validation_file=sent.validation_file,
            result_files=[result_file(run.id)] if run and succeeded else [],
            trained_tokens=run.result.tokens if run and run.result else None,
            seed=sent.seed or 0,
            error=_error(job, run, dataset),
            hyperparameters=chosen,
            method=JobMethodOut.of(chosen),
            metadata=sent.metadata,
            vezna=InVezna(
                dataset=dataset.reference if dataset else None,
                run_id=run.id if run else None,
                run_url=f"{base}/runs/{run.id}" if run else None,
                compare_url=f"{base}/compare?runs={run.id}" if run else None,
            ),
        )


class JobList(BaseModel):
    """Jobs, the newest first."""

    object: Literal["list"] = "list"
    data: list[Job]
    has_more: bool


class CheckpointMetrics(BaseModel):
    """Of the model that was kept."""

    step: int
    full_valid_loss: float | None
    full_valid_mean_token_accuracy: float | None = None


class Checkpoint(BaseModel):
    """A model that can be used."""

    id: str
    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    created_at: int
    fine_tuning_job_id: str
    fine_tuned_model_checkpoint: str
    step_number: int
    metrics: CheckpointMetrics


class CheckpointList(BaseModel):
    """The checkpoints of a job."""

    object: Literal["list"] = "list"
    data: list[Checkpoint]
    has_more: Literal[False] = False
    first_id: str | None
    last_id: str | None


@router.post("", operation_id="openaiCreateJob", responses=openai_problems(400, 403, 503))
def create(db: Db, bell: Bell, settings: Config, once: OnceByHeader, request: Request, body: JobRequest) -> Job:
    """Fine-tune a registered base model on an uploaded file, by examples or, with the method dpo, by preferences; with
    LoRA unless `metadata` has `vezna_method`. The file becomes a dataset, and the job a run."""
    with db.transaction() as session:
        row = fine_tuning.create(session, bell, body)
        answer = once.keep(session, Job.of(session, row, request))
    fine_tuning.advance(db, bell, settings, row.id)
    return answer


@router.get("", operation_id="openaiListJobs", responses=openai_problems(400, 404))
def list_jobs(session: Reading, request: Request, after: After = "", limit: Limit = 20) -> JobList:
    """The jobs of the user."""
    page = jobs.page(session, after=_number(after) if after else None, limit=limit)
    return JobList(data=[Job.of(session, row, request) for row in page.rows], has_more=page.has_more)


@router.get("/{job_id}", operation_id="openaiGetJob", responses=openai_problems(404))
def get(session: Reading, request: Request, job_id: JobId) -> Job:
    """A job."""
    return Job.of(session, jobs.get(session, _number(job_id)), request)


@router.post("/{job_id}/cancel", operation_id="openaiCancelJob", responses=openai_problems(400, 403, 404))
def cancel(db: Db, bell: Bell, request: Request, job_id: JobId) -> Job:
    """Cancel a job: one that waits at once, a running one after its step."""
    with db.transaction() as session:
        fine_tuning.cancel(session, bell, _number(job_id))
    with db.reading() as session:
        return Job.of(session, jobs.get(session, _number(job_id)), request)


@router.get("/{job_id}/events", operation_id="openaiJobEvents", responses=openai_problems(400, 404))
def list_events(session: Reading, job_id: JobId, after: After = "", limit: Limit = 20) -> EventList:
    """What happened: the run's log, and the metrics of each step."""
    job = jobs.get(session, _number(job_id))
    run = runs.find(session, job.run_id) if job.run_id is not None else None
    return JobEvents(session, job, run).page(after, limit)


@router.get("/{job_id}/checkpoints", operation_id="openaiJobCheckpoints", responses=openai_problems(400, 404))
def list_checkpoints(session: Reading, job_id: JobId, after: After = "", limit: Limit = 10) -> CheckpointList:
    """The model that the run kept, the best on validation; Vezna keeps no others once a run has ended."""
    job = jobs.get(session, _number(job_id))
    run = runs.find(session, job.run_id) if job.run_id is not None else None
    if after or run is None or run.status != RunStatus.SUCCEEDED or (result := run.result) is None:
        return CheckpointList(data=[], first_id=None, last_id=None)
    kept = [
        e for e in result.evaluations if (e.subject, e.split, e.step) == ("adapted", "validation", result.best_step)
    ]
    checkpoint = Checkpoint(
        id=f"ftckpt-{run.id}",
        created_at=_seconds(run.finished_at or run.queued_at),
        fine_tuning_job_id=f"ftjob-{job.id}",
        fine_tuned_model_checkpoint=f"run-{run.id}",
        step_number=result.best_step,
        metrics=CheckpointMetrics(step=result.best_step, full_valid_loss=kept[0].loss if kept else None),
    )
    return CheckpointList(data=[checkpoint], first_id=checkpoint.id, last_id=checkpoint.id)


def _number(job_id: str) -> int:
    """Raises NotFound."""
    if (found := JOB.fullmatch(job_id)) is None:
        raise NotFound(_("There is no fine-tuning job %(id)s.", id=job_id[:60]))
    return int(found[1])


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())


def _status(job: FineTuningJobRow, run: RunRow | None) -> Any:
    if job.status != "submitted":
        return job.status
    if run is None:  # it was deleted
        return "cancelled"
    return "paused" if run.status == RunStatus.QUEUED and run.paused else run.status


def _error(job: FineTuningJobRow, run: RunRow | None, dataset: Any) -> JobError | None:
    if (error := job.error) is not None:
        if dataset is not None and dataset.blocked_by:
            why = why_unavailable(dataset.message, dataset.blocked_by)
            return error.model_copy(update={"message": f"{stored(error.message)} {why}"})
        return error.model_copy(update={"message": stored(error.message)})
    failure = run.failure if run is not None else None
    return JobError(code=failure.code.value, message=stored(failure.message)) if failure is not None else None


def _hyperparameters(sent: JobRequest, run: RunRow | None) -> JobHyperparameters:
    chosen = sent.chosen
    out = PreferenceJobHyperparameters if TASKS[sent.task].prefers else JobHyperparameters
    if run is None:
        return out.model_validate(chosen.model_dump())
    training, multiplier = run.spec.training, chosen.learning_rate_multiplier
    epochs = training.num_train_epochs
    return out.model_validate(
        {
            "n_epochs": int(epochs) if epochs == int(epochs) else epochs,
            "batch_size": training.per_device_train_batch_size,
            "learning_rate_multiplier": 1.0 if multiplier == "auto" else multiplier,
            "beta": training.beta,
        }
    )
