"""Runs: submit, cancel, view. What a run's worker does is in `attempts/`."""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.broker.queue import Doorbell
from app.domain.accounts.audit import Action
from app.domain.errors import Conflict
from app.domain.messages import _
from app.domain.runs.spec import RunSpec
from app.domain.runs.status import RunStatus
from app.services.models.compatibility import Compatible, check
from app.services.ownership import ownership
from app.services.runs import ended as ended_runs
from app.services.runs import reported
from app.services.studies import interim_looks, tuning
from app.services.users import audit
from app.services.workers.queueing import enqueue
from app.store.data import queries as datasets
from app.store.database.ownership import require_change
from app.store.models import queries as base_models
from app.store.runs import artifacts, evaluations, events
from app.store.runs import queries as runs
from app.store.studies import queries as studies
from app.store.studies import tags
from app.store.tables import ArtifactRow, DatasetRow, EvaluationRow, RunEventRow, RunRow, now
from app.store.workers import queue


def submit(session: Session, bell: Doorbell, spec: RunSpec, compatible: Compatible | None = None) -> RunRow:
    """Queue a run that belongs to no study. Raises Invalid, unless it is already checked; then nothing is queued."""
    model, dataset = compatible or check(session, spec)
    ownership.require_uses(session, spec, model, dataset)
    run = enqueue(session, bell, spec, model, dataset)
    audit.record(session, Action.SUBMIT_RUN, run.id, base_model=model.name, dataset=dataset.reference, method=run.arm)
    return run


def cancel(session: Session, bell: Doorbell, run_id: int) -> RunRow:
    """Cancel a queued run at once, a running one with its worker's or its script's next report, and one whose script is
    silent at once. Of a study whose results are visible, this is an interim look. Raises NotFound, Conflict."""
    run = runs.get(session, run_id)
    if run.study_id is not None and run.trial_round is None and not RunStatus(run.status).terminal:
        interim_looks.count_cancelled(session, studies.get(session, run.study_id, lock=True))
    run = stop(session, bell, run_id)
    audit.record(session, Action.CANCEL_RUN, run_id)
    return run


def stop(session: Session, bell: Doorbell, run_id: int) -> RunRow:
    """Cancel a run, also as part of its study. Raises NotFound, Conflict."""
    run = runs.get(session, run_id)
    require_change(session, run)
    tuning.hold(session, run)
    at = now()
    for _try in range(2):  # a worker may claim it, or hand it back, between the two updates
        if runs.move(session, run_id, RunStatus.QUEUED, RunStatus.CANCELLED, finished_at=at, cancel_requested_at=at):
            events.add(session, run_id, "status", "cancelled while it was queued")
            tuning.trial_ended(session, bell, run)
            ended_runs.note(session, run_id)
            break
        if reported.cancel_silent(session, run, at):
            break
        if runs.ask_to_cancel(session, run_id, at):
            events.add(session, run_id, "status", "asked to cancel")
            break
    else:
        session.refresh(run)
        raise Conflict(_("Run %(run_id)s has already ended: it is %(status)s.", run_id=run_id, status=run.status))
    session.refresh(run)
    return run


@dataclass(frozen=True)
class RunView:
    """A run with its log, evaluations, files and names."""

    row: RunRow
    study_name: str | None
    base_model: str
    dataset: str
    events: list[RunEventRow]
    evaluations: list[EvaluationRow]
    artifacts: list[ArtifactRow]
    tags: list[str]
    queue_position: int | None
    """From 1; None unless it waits for its turn."""


def view(session: Session, run_id: int, *, log_lines: int = 200) -> RunView:
    """Everything that a page shows of a run. Raises NotFound."""
    row = runs.get(session, run_id)
    study = studies.get(session, row.study_id) if row.study_id else None
    model = base_models.by_id(session, row.base_model_id)
    dataset = datasets.by_id(session, row.dataset_id)
    waits = row.status == RunStatus.QUEUED and not row.paused
    return RunView(
        row=row,
        study_name=study.name if study else None,
        base_model=model.name if model else _model(row),
        dataset=_data(row, dataset),
        events=events.last(session, run_id, limit=log_lines),
        evaluations=evaluations.of_run(session, run_id),
        artifacts=artifacts.of_run(session, run_id),
        tags=tags.of_runs(session, [run_id]).get(run_id, []),
        queue_position=queue.place_in_queue(session, row) if waits else None,
    )


def _data(row: RunRow, dataset: DatasetRow | None) -> str:
    if dataset is not None:
        return dataset.shown
    return (row.imported_result.dataset or "") if row.imported_result else row.spec.dataset


def _model(row: RunRow) -> str:
    return (row.imported_result.base_model or "") if row.imported_result else row.spec.base_model
