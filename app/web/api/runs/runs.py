"""Runs over REST: submit, get, annotate, cancel, step metrics. The list is in listing.py."""

from datetime import datetime
from typing import Annotated, Literal, Self

import numpy as np
from fastapi import APIRouter, Body, Query
from pydantic import BaseModel
from sqlalchemy.orm import Session

from app.domain.accounts.ownership import Visibility
from app.domain.failures import Failure
from app.domain.imports.reported import ReportedRun
from app.domain.imports.result import ImportedResult
from app.domain.resources.memory_fit import RunFit
from app.domain.runs.curves.downsampling import lttb
from app.domain.runs.listing.annotations import Changes
from app.domain.runs.listing.queue import Priority
from app.domain.runs.result import STEP_DTYPE, RunResult, StepColumn, known
from app.domain.runs.spec import RunSpec
from app.services.models.compatibility import Compatible
from app.services.ownership import deletion
from app.services.ownership.deletion import Deletion
from app.services.resources import memory_fit
from app.services.resources.estimates import read_or_request
from app.services.runs import annotations, archive, reported, submission
from app.services.runs import runs as run_service
from app.services.studies.learning import run_learning
from app.store.database.page import LARGEST_ID
from app.store.runs import evaluations, steps
from app.store.runs import queries as runs
from app.store.studies import tags
from app.store.tables import EvaluationRow, RunRow
from app.web.api.answer import Answer
from app.web.api.examples import RUN
from app.web.api.runs.listing import RunState
from app.web.api.studies.learning import RunLearningOut
from app.web.http.dependencies import Bell, Config, Db, NewDb, Reading, Store
from app.web.http.errors import problems
from app.web.http.idempotency import OnceByHeader

router = APIRouter(prefix="/runs", tags=["runs"])

Insist = Annotated[bool, Query(description="Queue it even if by its estimate no live worker has enough memory.")]


class RunOut(RunState):
    """A run: its spec, its progress, its result."""

    trial_round: int | None
    """The tuning round of a trial, from 0; None for a run that counts in a verdict."""
    spec: RunSpec | None
    """None for an imported run."""
    imported: ImportedResult | ReportedRun | None
    """The contents of an imported run's file, or what the script of a run trained elsewhere reported; None for a run
    that was trained here."""
    collection_id: int | None
    """Collection of an imported run. For a run trained elsewhere, its study (GET /api/v1/external-studies/{id})."""
    heard_at: datetime | None
    """When the script of a run trained elsewhere last reported; None for any other run."""
    no_news: bool
    """It goes on elsewhere, and its script has not reported for a day."""
    phase: str | None
    downloaded_bytes: int | None
    """Bytes of `download_bytes` that have arrived, if this attempt's worker lacked the base model."""
    download_bytes: int | None
    total_steps: int | None
    eta_seconds: float | None
    """Estimated remaining seconds of training."""
    memory_bytes: int | None
    cancel_requested: bool
    paused: bool
    """It is not started before it is resumed (PATCH /api/v1/queue/runs/{id})."""
    priority: Priority
    """What starts before what: GET /api/v1/queue."""
    owner_id: int | None
    """The user to whom it belongs; null without login."""
    visibility: Visibility
    """`private`: its owner and admins see it; `team`: all users."""
    estimate_id: int | None
    """GET /api/v1/estimates/{id}."""
    failure: Failure | None
    """If memory ran out, with the ledger of that moment."""
    result: RunResult | None
    learned: RunLearningOut | None
    """None without a result."""

    @classmethod
    def of(cls, session: Session, row: RunRow) -> Self:
        return cls.from_object(
            row,
            spec=None if row.imported else row.spec,
            imported=row.imported_result,
            no_news=reported.is_silent(session, row),
            attempt=row.epoch,
            tags=tags.of_runs(session, [row.id]).get(row.id, []),
            learned=run_learning(session, row),
        )


class StepSeries(BaseModel):
    """Step metrics as columns of equal length; `thinned` if steps were left out. Columns that were not requested are
    null, and so are numbers that are not finite, or that the script of a run trained elsewhere did not state."""

    run_id: int
    total: int
    thinned: bool
    step: list[int]
    epoch: list[float | None] | None = None
    loss: list[float | None] | None = None
    learning_rate: list[float | None] | None = None
    grad_norm: list[float | None] | None = None
    tokens: list[int | None] | None = None
    seconds: list[float] | None = None
    memory_bytes: list[int | None] | None = None


class ValidationOut(Answer):
    """An evaluation on the validation split."""

    subject: Literal["base", "adapted"]
    """`base`: before training, with a new head if the task adds one."""
    step: int
    epoch: float
    items: int
    loss: float | None
    """None if a script did not report it."""
    metrics: dict[str, float]
    """By name, the verdict's metric among them where it was computed on this split."""

    @classmethod
    def of(cls, row: EvaluationRow) -> Self:
        metrics = {row.metric: row.score} if row.score is not None else {}
        return cls.from_object(row, items=row.n, metrics=row.metrics_json | metrics)


@router.post("", status_code=202, operation_id="submitRun", responses=problems(409, 422))
def submit(
    db: NewDb,
    bell: Bell,
    settings: Config,
    once: OnceByHeader,
    spec: Annotated[RunSpec, Body(openapi_examples=RUN)],
    insist: Insist = False,
) -> RunOut:
    """Queue a run. An incompatible base model, dataset or method is refused with the field and the remedy; so is a
    run that by its estimate needs more memory than any live worker has, unless you insist."""

    def accept(session: Session, compatible: Compatible) -> RunOut:
        return once.keep(session, RunOut.of(session, run_service.submit(session, bell, spec, compatible)))

    return submission.submit(db, bell, settings, spec, accept, insist=insist)


@router.get("/{run_id}", operation_id="getRun", responses=problems(404))
def get(session: Reading, run_id: int) -> RunOut:
    """A run."""
    return RunOut.of(session, runs.get(session, run_id))


@router.patch("/{run_id}", operation_id="changeRun", responses=problems(404, 409, 422))
def change(db: Db, run_id: int, changes: Changes) -> RunOut:
    """Change a run's note or tags, archive or unarchive it; omitted fields stay as they are. 409 for archiving a run
    that is queued or running, or that belongs to a study."""
    with db.transaction() as session:
        if changes.archived is not None:
            archive.archive_run(session, run_id, changes.archived)
        return RunOut.of(session, annotations.annotate_run(session, run_id, changes))


@router.get("/{run_id}/deletion", operation_id="previewRunDeletion", responses=problems(404))
def preview_deletion(session: Reading, run_id: int) -> Deletion:
    """What deleting a run would remove, or why it is refused."""
    return deletion.of_run(session, run_id)


@router.delete("/{run_id}", status_code=204, operation_id="deleteRun", responses=problems(404, 409))
def delete(db: Db, files: Store, run_id: int) -> None:
    """Permanently delete a run with everything that belongs to it; 409 while it is queued or running, or if it
    belongs to a study."""
    with db.transaction() as session:
        deletion.delete_run(session, files, run_id)


@router.get("/{run_id}/fit", operation_id="getRunFit", responses=problems(404))
def fit(db: Db, bell: Bell, settings: Config, run_id: int) -> RunFit:
    """A run's estimate and its measurement; if memory ran out or the run does not fit, also memory savings. Repeat
    the request while `savings_pending` is above 0."""
    return read_or_request(
        db, bell, lambda session, b: memory_fit.run_fit(session, b, settings, runs.get(session, run_id))
    )


@router.post("/{run_id}/cancel", status_code=202, operation_id="cancelRun", responses=problems(404, 409, 422))
def cancel(db: Db, bell: Bell, once: OnceByHeader, run_id: int) -> RunOut:
    """Cancel a run: immediately if it is queued, within seconds if it is running; 409 if it has ended."""
    with db.transaction() as session:
        return once.keep(session, RunOut.of(session, run_service.cancel(session, bell, run_id)))


@router.get("/{run_id}/steps", operation_id="getRunSteps", responses=problems(404))
def series(
    session: Reading,
    run_id: int,
    points: Annotated[
        int, Query(ge=3, le=100_000, description="Maximum number of steps; the curve keeps its shape.")
    ] = 2000,
    after_step: Annotated[int, Query(ge=0, le=LARGEST_ID)] = 0,
    columns: Annotated[
        list[StepColumn], Query(description="Columns besides `step`; repeat for several. Default: all.")
    ] = [],  # noqa: B006
) -> StepSeries:
    """Step metrics, downsampled so that the loss curve keeps its shape."""
    runs.get(session, run_id)
    chunks = steps.chunks(session, run_id, after_step=after_step)
    number, loss = (steps.column(chunks, name, np.float64) for name in ("step", "loss"))
    kept = steps.picked(chunks, lttb(number, loss, points))
    names = {"step", *(columns or STEP_DTYPE.names or ())}
    series = {name: known(kept, name) for name in names}
    return StepSeries(run_id=run_id, total=len(number), thinned=len(kept) < len(number), **series)


@router.get("/{run_id}/evaluations", operation_id="getRunEvaluations", responses=problems(404))
def validated(session: Reading, run_id: int) -> list[ValidationOut]:
    """Evaluations on the validation split so far, by step; a run's `result` has those of the other splits."""
    run = runs.get(session, run_id)
    return [ValidationOut.of(row) for row in evaluations.of_runs(session, [run.id], "validation")]
