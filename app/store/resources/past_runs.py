"""What past runs on the same base model and dataset took and reached."""

from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.domain.runs.spec import RunSpec
from app.domain.runs.status import RunStatus
from app.store.tables import RunRow

MOST = 200
MOST_BESIDE = 20


class PastRun(NamedTuple):
    id: int
    spec: RunSpec
    train_seconds: float
    wall_seconds: float
    score: float
    device_name: str


def succeeded(session: Session, base_model_id: int, dataset_id: int) -> list[PastRun]:
    """The newest succeeded runs of a base model on a dataset, without trials."""
    columns = (RunRow.id, RunRow.spec_json, RunRow.train_seconds, RunRow.wall_seconds, RunRow.score, RunRow.device_name)
    query = (
        select(*columns)
        .where(RunRow.base_model_id == base_model_id, RunRow.dataset_id == dataset_id)
        .where(RunRow.status == RunStatus.SUCCEEDED.value, RunRow.wall_seconds.is_not(None))
        .where(RunRow.trial_round.is_(None))  # it has no score, and may be shorter than the study's runs
        .order_by(RunRow.id.desc())
        .limit(MOST)
    )
    return [
        PastRun(run_id, RunSpec.model_validate(spec), train or 0.0, wall or 0.0, score or 0.0, device or "")
        for run_id, spec, train, wall, score, device in session.execute(query)
    ]


def beside_training(session: Session, base_model_id: int, dataset_id: int) -> list[float]:
    """Seconds that the newest succeeded runs of a base model on a dataset took beside their training: to load, evaluate
    and save."""
    query = (
        select(RunRow.wall_seconds - RunRow.train_seconds)
        .where(RunRow.base_model_id == base_model_id, RunRow.dataset_id == dataset_id)
        .where(RunRow.status == RunStatus.SUCCEEDED.value, RunRow.trial_round.is_(None))
        .where(RunRow.wall_seconds.is_not(None), RunRow.train_seconds.is_not(None))
        .order_by(RunRow.id.desc())
        .limit(MOST_BESIDE)
    )
    return [seconds for seconds in session.scalars(query) if seconds is not None]
