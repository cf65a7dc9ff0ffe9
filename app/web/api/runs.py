"""Runs over HTTP: submit, get, annotate, cancel, step metrics. The list is in run_list.py."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Self

import numpy as np
from fastapi import APIRouter, Body, Query
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from app.domain.failures import Failure
from app.domain.imports.result import ImportedResult
from app.domain.resources.memory_fit import RunFit
from app.domain.runs.annotations import Changes
from app.domain.runs.digits import plain
from app.domain.runs.downsampling import lttb
from app.domain.runs.result import STEP_DTYPE, RunResult, StepColumn
from app.domain.runs.spec import RunSpec
from app.domain.runs.status import RunStatus
from app.services import annotations, archive, deletion, submission
from app.services import runs as run_service
from app.services.compatibility import Compatible
from app.services.deletion import Deletion
from app.services.resources import memory_fit
from app.services.resources.estimates import read_or_request
from app.store.queries import runs, steps, tags
from app.store.queries.page import LARGEST_ID
from app.store.tables import RunRow
from app.web.api.examples import RUN
from app.web.http.dependencies import Bell, Config, Db, Reading, Store
from app.web.http.errors import problems

router = APIRouter(prefix="/runs", tags=["runs"])

Insist = Annotated[bool, Query(description="Queue it even if no live worker has enough memory, by its estimate.")]


class RunOut(BaseModel):
    """A run: its spec, its progress, its result."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    study_id: int | None
    arm: str
    trial_round: int | None
    """The round of tuning that it is a trial of, from 0; None for a run that counts in a verdict."""
    status: RunStatus
    spec: RunSpec | None = Field(validation_alias="own_spec")
    """None for an imported run."""
    imported: ImportedResult | None = Field(validation_alias="imported_result")
    """What the file of an imported run says; None for a run that was trained here."""
    collection_id: int | None
    """Of an imported run."""
    attempt: int = Field(validation_alias="epoch")
    """Number of the attempt, from 1; 0 while the run has never been claimed."""
    worker: str | None
    phase: str | None
    downloaded_bytes: int | None
    """Of the base model, of `download_bytes`, where this attempt's worker lacked it."""
    download_bytes: int | None
    step: int
    total_steps: int | None
    eta_seconds: float | None
    """Estimated seconds of training that are left."""
    train_loss: float | None
    metric: str
    """What the three scores are, from 0 to 1."""
    validation_score: float | None
    """None where the metric needs generated text, which is judged on the test split only."""
    score: float | None
    """Of the adapted model on the test split."""
    base_score: float | None
    """Of the base model."""
    memory_bytes: int | None
    cancel_requested: bool
    queued_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    estimate_id: int | None
    """GET /api/v1/estimates/{id}."""
    estimated_bytes: int | None
    """Peak, without the device's own needs; GET /api/v1/runs/{id}/fit has those too."""
    failure: Failure | None
    """Where memory ran out, with the ledger of that moment."""
    result: RunResult | None
    note: str
    tags: list[str] = []
    archived: bool

    @classmethod
    def of(cls, row: RunRow, tags: Sequence[str] = ()) -> Self:
        """From the store; a new run has no tags yet."""
        return cls.model_validate(row).model_copy(update={"tags": list(tags)})


class StepSeries(BaseModel):
    """Step metrics as columns of equal length; `thinned` if not every step is there. A column that was not asked for is
    null, and so is a number that is not finite."""

    run_id: int
    total: int
    thinned: bool
    step: list[int]
    epoch: list[float] | None = None
    loss: list[float | None] | None = None
    learning_rate: list[float] | None = None
    grad_norm: list[float | None] | None = None
    tokens: list[int] | None = None
    seconds: list[float] | None = None
    memory_bytes: list[int] | None = None


@router.post("", status_code=202, operation_id="submitRun", responses=problems(422))
def submit(
    db: Db, bell: Bell, settings: Config, spec: Annotated[RunSpec, Body(openapi_examples=RUN)], insist: Insist = False
) -> RunOut:
    """Queue a run. An incompatible base model, dataset or method is refused with the field and the remedy; so is a run
    that needs more memory than any live worker has, by its estimate, unless you insist."""

    def accept(session: Session, compatible: Compatible) -> RunOut:
        return RunOut.of(run_service.submit(session, bell, spec, compatible))

    return submission.submit(db, bell, settings, spec, accept, insist=insist)


@router.get("/{run_id}", operation_id="getRun", responses=problems(404))
def get(session: Reading, run_id: int) -> RunOut:
    """A run."""
    return _out(session, runs.get(session, run_id))


@router.patch("/{run_id}", operation_id="changeRun", responses=problems(404, 409, 422))
def change(db: Db, run_id: int, changes: Changes) -> RunOut:
    """Change a run's note or tags, archive it, or bring it back; what is not given stays. 409 for archiving a run that
    is queued or running, or that belongs to a study."""
    with db.transaction() as session:
        if changes.archived is not None:
            archive.archive_run(session, run_id, changes.archived)
        return _out(session, annotations.annotate_run(session, run_id, changes))


@router.get("/{run_id}/deletion", operation_id="previewRunDeletion", responses=problems(404))
def preview_deletion(session: Reading, run_id: int) -> Deletion:
    """What deleting a run would remove, or why it is refused."""
    return deletion.of_run(session, run_id)


@router.delete("/{run_id}", status_code=204, operation_id="deleteRun", responses=problems(404, 409))
def delete(db: Db, files: Store, run_id: int) -> None:
    """Delete a run with everything that belongs to it, for good; 409 while it is queued or running, or if it belongs
    to a study."""
    with db.transaction() as session:
        deletion.delete_run(session, files, run_id)


@router.get("/{run_id}/fit", operation_id="getRunFit", responses=problems(404))
def fit(db: Db, bell: Bell, settings: Config, run_id: int) -> RunFit:
    """A run's estimate beside its measurement; where memory ran out, or it does not fit, memory savings. Ask again
    while `savings_pending`."""
    return read_or_request(
        db, bell, lambda session, b: memory_fit.run_fit(session, b, settings, runs.get(session, run_id))
    )


@router.post("/{run_id}/cancel", status_code=202, operation_id="cancelRun", responses=problems(404, 409))
def cancel(db: Db, bell: Bell, run_id: int) -> RunOut:
    """Cancel a run: at once if it is queued, within seconds if it runs; 409 if it has ended."""
    with db.transaction() as session:
        return _out(session, run_service.cancel(session, bell, run_id))


@router.get("/{run_id}/steps", operation_id="getRunSteps", responses=problems(404))
def series(
    session: Reading,
    run_id: int,
    points: Annotated[int, Query(ge=3, le=100_000, description="At most so many steps, chosen by shape.")] = 2000,
    after_step: Annotated[int, Query(ge=0, le=LARGEST_ID)] = 0,
    columns: Annotated[
        list[StepColumn], Query(description="Once for each that you want beside `step`; left out: all.")
    ] = [],  # noqa: B006
) -> StepSeries:
    """Step metrics, thinned on the server so that the curve of the loss keeps its shape."""
    runs.get(session, run_id)
    found = steps.chunks(session, run_id, after_step=after_step)
    number, loss = (steps.column(found, name, np.float64) for name in ("step", "loss"))
    kept = steps.picked(found, lttb(number, loss, points))
    wanted = {"step", *(columns or STEP_DTYPE.names or ())}
    given = {name: plain(kept[name]) for name in wanted}
    return StepSeries(run_id=run_id, total=len(number), thinned=len(kept) < len(number), **given)


def _out(session: Session, row: RunRow) -> RunOut:
    return RunOut.of(row, tags.of_runs(session, [row.id]).get(row.id, ()))
