"""The life of a run as its owner sees it: submit, cancel, look. What its worker does is in `attempts.py`."""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.domain.errors import Conflict
from app.domain.runs import RunSpec, RunStatus
from app.queue import TRAIN, Doorbell
from app.services import estimates
from app.services.fit import check_run
from app.store.queries import artifacts, base_models, datasets, evaluations, events, runs, studies
from app.store.session import after_commit
from app.store.tables import (
    ArtifactRow,
    BaseModelRow,
    DatasetRow,
    EvaluationRow,
    RunEventRow,
    RunRow,
    now,
)


def submit(session: Session, bell: Doorbell, spec: RunSpec) -> RunRow:
    """Accept a run on its own. Raises Invalid if it does not fit what is registered; then nothing is queued."""
    model, dataset = check_run(session, spec)
    return enqueue(session, bell, spec, model, dataset)


def enqueue(
    session: Session,
    bell: Doorbell,
    spec: RunSpec,
    model: BaseModelRow,
    dataset: DatasetRow,
    *,
    study_id: int | None = None,
    arm: str = "",
) -> RunRow:
    """Insert a checked run as `queued`, have its needs predicted, and ring once it is committed."""
    rate = spec.training.learning_rate or spec.method.facts.learning_rate
    spec = spec.model_copy(update={"training": spec.training.model_copy(update={"learning_rate": rate})})
    run = RunRow(
        study_id=study_id,
        arm=arm or spec.method.label,
        seed=spec.training.seed,
        method_kind=spec.method.kind,
        metric=spec.verdict_metric,
        base_model_id=model.id,
        dataset_id=dataset.id,
        learning_rate=rate,
        spec_json=spec.model_dump(mode="json"),
        status=RunStatus.QUEUED.value,
        rung_at=now(),
    )
    session.add(run)
    session.flush()
    events.add(session, run.id, "status", "queued")
    after_commit(session, lambda: bell.ring(TRAIN, run.id))
    estimates.for_submitted(session, bell, run, model, dataset)
    return run


def cancel(session: Session, run_id: int) -> RunRow:
    """Cancel a queued run at once, a running one with its worker's next report. Raises NotFound, Conflict."""
    run = runs.get(session, run_id)
    at = now()
    for _ in range(2):  # it may be claimed, or handed back, between the two looks
        if runs.move(session, run_id, RunStatus.QUEUED, RunStatus.CANCELLED, finished_at=at, cancel_requested_at=at):
            events.add(session, run_id, "status", "cancelled while it was queued")
            break
        if runs.ask_to_cancel(session, run_id, at):
            events.add(session, run_id, "status", "asked to cancel")
            break
    else:
        session.refresh(run)
        raise Conflict(f"run {run_id} has already ended: it is {run.status}")
    session.refresh(run)
    return run


@dataclass(frozen=True)
class RunView:
    """A run with what belongs to it."""

    row: RunRow
    study_name: str | None
    base_model: str
    dataset: str
    events: list[RunEventRow]
    evaluations: list[EvaluationRow]
    artifacts: list[ArtifactRow]
    place: int | None
    """Place in the queue, from 1; None unless it is queued."""


def view(session: Session, run_id: int, *, log_lines: int = 200) -> RunView:
    """Everything that a page shows of a run. Raises NotFound."""
    row = runs.get(session, run_id)
    study = studies.get(session, row.study_id) if row.study_id else None
    model = base_models.by_id(session, row.base_model_id)
    dataset = datasets.by_id(session, row.dataset_id)
    return RunView(
        row=row,
        study_name=study.name if study else None,
        base_model=model.name if model else row.spec.base_model,
        dataset=(dataset.title or dataset.name) if dataset else row.spec.dataset,
        events=events.last(session, run_id, limit=log_lines),
        evaluations=evaluations.of_run(session, run_id),
        artifacts=artifacts.of_run(session, run_id),
        place=runs.place_in_queue(session, row) if row.status == RunStatus.QUEUED else None,
    )
