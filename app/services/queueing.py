"""Queueing checked runs: single ones, and those of a study. Nothing else inserts runs to execute."""

from collections.abc import Iterable

from sqlalchemy.orm import Session

from app.domain.runs.spec import RunSpec
from app.domain.runs.status import RunStatus
from app.domain.studies.search_space import Configuration
from app.domain.studies.spec import OwedRun
from app.queue import TRAIN, Doorbell
from app.services.resources import estimates
from app.store.queries import clock, events
from app.store.session import after_commit
from app.store.tables import BaseModelRow, DatasetRow, RunRow, StudyRow
from app.store.tables.owned import inherited


def enqueue_owed(
    session: Session,
    bell: Doorbell,
    study: StudyRow,
    owed: Iterable[OwedRun],
    model: BaseModelRow,
    dataset: DatasetRow,
) -> None:
    """Queue runs of a study, in their order."""
    for run in owed:
        trial = (run.trial_round, run.configuration) if run.trial_round is not None and run.configuration else None
        enqueue(session, bell, run.spec, model, dataset, study=study, arm=run.arm, trial=trial)


def enqueue(
    session: Session,
    bell: Doorbell,
    spec: RunSpec,
    model: BaseModelRow,
    dataset: DatasetRow,
    *,
    study: StudyRow | None = None,
    arm: str = "",
    trial: tuple[int, Configuration] | None = None,
) -> RunRow:
    """Insert a checked run as `queued`, request its estimate, and ring once it is committed. `trial`: its round of
    tuning, and what it is a trial of."""
    spec = spec.with_default_rate(model.facts.width(spec.task) if model.facts else None)
    run = RunRow(
        study_id=study.id if study else None,
        **(inherited(study) if study else {}),
        arm=arm or spec.method.label,
        seed=spec.training.seed,
        trial_round=trial[0] if trial else None,
        trial_json=trial[1].model_dump(exclude_none=True) if trial else None,
        method_kind=spec.method.kind,
        metric=spec.verdict_metric,
        base_model_id=model.id,
        dataset_id=dataset.id,
        learning_rate=spec.learning_rate,
        spec_json=spec.model_dump(mode="json"),
        status=RunStatus.QUEUED.value,
        rung_at=clock.now(session),
    )
    session.add(run)
    session.flush()
    events.add(session, run.id, "status", "queued")
    after_commit(session, lambda: bell.ring(TRAIN, run.id))
    estimates.for_submitted(session, bell, run, model, dataset)
    return run
