"""Queries of runs, and the compare-and-set updates that move them between states."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.orm import Session

from app.domain.messages import _
from app.domain.runs.status import TRANSITIONS, RunStatus
from app.domain.tasks import Task
from app.store.database.ownership import EVERY_OWNER, note_access
from app.store.database.page import LARGEST_ID
from app.store.database.rows import affected, changed, find_row, get_row
from app.store.tables import ArtifactRow, RunRow, WorkerRow

Condition = ColumnElement[bool]

LIVE = tuple(status.value for status in RunStatus if not status.terminal)
"""Queued or running."""
HERE = RunRow.collection_id.is_(None)
"""Runs that are trained elsewhere use no device of this installation."""
WEIGHTS = ("adapter", "model")
"""Kinds of artifacts that hold what a run trained."""
CANCEL_REQUESTED = RunRow.cancel_requested_at.is_not(None)


def find(session: Session, run_id: int) -> RunRow | None:
    return find_row(session, RunRow, run_id)


def get(session: Session, run_id: int, *, lock: bool = False) -> RunRow:
    """A run; with `lock`, read anew and locked until the transaction ends. Raises NotFound."""
    return get_row(session, RunRow, run_id, _("There is no run %(run_id)s.", run_id=run_id), lock=lock)


def some(session: Session, run_ids: Sequence[int]) -> list[RunRow]:
    """Those of some runs that exist, by id."""
    known = [number for number in run_ids if number <= LARGEST_ID]
    rows = list(session.scalars(select(RunRow).where(RunRow.id.in_(known)).order_by(RunRow.id)))
    for row in rows:
        note_access(session, row)
    return rows


def listed(session: Session, run_ids: Sequence[int]) -> list[RunRow]:
    """Those of some runs that the session's viewer sees, as in a list: opening none of them."""
    return list(session.scalars(select(RunRow).where(RunRow.id.in_(run_ids)))) if run_ids else []


def visible(session: Session, run_ids: Sequence[int]) -> set[int]:
    """Those of some runs that the session's viewer sees."""
    return set(session.scalars(select(RunRow.id).where(RunRow.id.in_(run_ids)))) if run_ids else set()


def may_repeat(session: Session, first: RunRow) -> list[RunRow]:
    """Later runs without a study that have a run's base model, version of the data, kind of method and seed, the oldest
    first; their settings may differ."""
    query = select(RunRow).where(
        RunRow.id > first.id,
        RunRow.study_id.is_(None),
        RunRow.base_model_id == first.base_model_id,
        RunRow.dataset_id == first.dataset_id,
        RunRow.method_kind == first.method_kind,
        RunRow.seed == first.seed,
    )
    return list(session.scalars(query.order_by(RunRow.id)))


def scored_seeds(session: Session, first: RunRow) -> list[RunRow]:
    """Succeeded runs of a run's arm or, outside of a study, of its group, with a test score, without trials, the oldest
    first."""
    query = select(RunRow).where(
        RunRow.group_key == first.group_key,
        RunRow.study_id.is_(None) if first.study_id is None else RunRow.study_id == first.study_id,
        RunRow.trial_round.is_(None),
        RunRow.status == RunStatus.SUCCEEDED.value,
        RunRow.score.is_not(None),
    )
    return list(session.scalars(query.order_by(RunRow.id)))


def beside(session: Session, run_id: int, *, limit: int) -> list[RunRow]:
    """Succeeded runs on the same dataset or in the same collection, newest first, without trials and archived runs."""
    run = get(session, run_id)
    same = RunRow.dataset_id == run.dataset_id if run.dataset_id else RunRow.collection_id == run.collection_id
    query = select(RunRow).where(
        same,
        RunRow.id != run_id,
        RunRow.status == RunStatus.SUCCEEDED.value,
        RunRow.trial_round.is_(None),
        RunRow.archived.is_(False),
    )
    return list(session.scalars(query.order_by(RunRow.id.desc()).limit(limit)))


def of_study(session: Session, study_id: int) -> list[RunRow]:
    """The runs of a study, in the order in which it queued them."""
    return of_studies(session, [study_id])


def of_studies(session: Session, study_ids: Sequence[int]) -> list[RunRow]:
    """The runs of several studies, by id."""
    return list(session.scalars(select(RunRow).where(RunRow.study_id.in_(study_ids)).order_by(RunRow.id)))


def trials_of(session: Session, study_id: int) -> list[RunRow]:
    """A study's trials, read again even if the session has them."""
    query = select(RunRow).where(RunRow.study_id == study_id, RunRow.trial_round.is_not(None)).order_by(RunRow.id)
    return list(session.scalars(query, execution_options={"populate_existing": True}))


def arms_with_runs(session: Session, study_id: int) -> set[str]:
    """The arms of a study with runs that count in its verdict."""
    query = select(RunRow.arm).where(RunRow.study_id == study_id, RunRow.trial_round.is_(None)).distinct()
    return set(session.scalars(query))


def any_live(session: Session, study_id: int) -> bool:
    """Whether a run of a study is queued or running."""
    query = select(RunRow.id).where(RunRow.study_id == study_id, RunRow.status.in_(LIVE))
    return session.scalar(query.limit(1)) is not None


def on_cpus_of(session: Session, host: str) -> list[RunRow]:
    """Runs that workers of a machine execute on its CPU."""
    query = (
        select(RunRow)
        .join(WorkerRow, WorkerRow.name == RunRow.worker)
        .where(
            RunRow.status == RunStatus.RUNNING.value,
            WorkerRow.device == "cpu",
            (WorkerRow.name == host) | WorkerRow.name.startswith(f"{host}-", autoescape=True),
        )
    )
    return list(session.scalars(query))


def that_answer(
    session: Session, tasks: Collection[Task], base_model_id: int | None = None, *, limit: int
) -> list[RunRow]:
    """Succeeded runs of some tasks with saved weights, the newest first, without archived runs."""
    has_weights = select(ArtifactRow.id).where(ArtifactRow.run_id == RunRow.id, ArtifactRow.kind.in_(WEIGHTS))
    query = select(RunRow).where(
        RunRow.status == RunStatus.SUCCEEDED.value,
        RunRow.trial_round.is_(None),
        RunRow.archived.is_(False),
        RunRow.task.in_(tasks),
        has_weights.exists(),
    )
    if base_model_id is not None:
        query = query.where(RunRow.base_model_id == base_model_id)
    return list(session.scalars(query.order_by(RunRow.id.desc()).limit(limit)))


def statuses(session: Session, study_id: int) -> dict[str, int]:
    """The number of a study's runs in each status; trials do not count."""
    query = select(RunRow.status, func.count()).where(RunRow.study_id == study_id, RunRow.trial_round.is_(None))
    return {status: count for status, count in session.execute(query.group_by(RunRow.status))}


def set_archived(session: Session, which: Condition, archived: bool) -> int:
    """Archive or unarchive the runs that match a condition and have ended. Returns their number."""
    query = update(RunRow).where(which, RunRow.status.not_in(LIVE)).values(archived=archived)
    return affected(session, query)


def count_by_status(session: Session) -> dict[str, int]:
    """The number of runs in each status, visible or not, without imported runs."""
    query = select(RunRow.status, func.count()).where(RunRow.collection_id.is_(None)).group_by(RunRow.status)
    rows = session.execute(query.execution_options(**EVERY_OWNER))
    return {status.value: 0 for status in RunStatus} | {status: n for status, n in rows}


def running(session: Session, *, limit: int) -> list[RunRow]:
    """Running runs of this installation's workers, the newest first."""
    here = RunRow.status == RunStatus.RUNNING.value, RunRow.collection_id.is_(None)
    query = select(RunRow).where(*here).order_by(RunRow.id.desc()).limit(limit)
    return list(session.scalars(query))


def expired(session: Session, at: datetime) -> list[RunRow]:
    """Running runs whose lease has expired. Runs that are trained elsewhere have none: silence ends no run there."""
    query = select(RunRow).where(
        RunRow.status == RunStatus.RUNNING.value, RunRow.lease_expires_at < at, RunRow.collection_id.is_(None)
    )
    return list(session.scalars(query.order_by(RunRow.id)))


def lock(session: Session, run_ids: Sequence[int]) -> None:
    """Lock runs until the transaction ends."""
    session.execute(select(RunRow.id).where(RunRow.id.in_(run_ids)).order_by(RunRow.id).with_for_update())


def present(session: Session, run_ids: Collection[int]) -> frozenset[int]:
    """The ids that have a run."""
    return frozenset(session.scalars(select(RunRow.id).where(RunRow.id.in_(run_ids))))


def ended_with_checkpoints(session: Session, *, limit: int = 100) -> list[int]:
    """Ids of runs that have ended and still have checkpoints."""
    terminal = [status.value for status in RunStatus if status.terminal]
    query = select(RunRow.id).where(RunRow.status.in_(terminal), RunRow.checkpoints_json != [])
    return list(session.scalars(query.order_by(RunRow.id).limit(limit)))


def forget_checkpoints(session: Session, run_id: int) -> None:
    """Record that a run has no checkpoints any more."""
    session.execute(update(RunRow).where(RunRow.id == run_id).values(checkpoints_json=[]))


def move(
    session: Session, run_id: int, source: RunStatus, target: RunStatus, *conditions: Condition, **values: Any
) -> bool:
    """Compare and set: change a run's status from `source` to `target`, if the conditions hold.

    True if this call changed it. ValueError for a transition that does not exist.
    """
    if target not in TRANSITIONS[source]:
        raise ValueError(f"a run never goes from {source} to {target}")
    query = update(RunRow).where(RunRow.id == run_id, RunRow.status == source.value, *conditions)
    return changed(session, query.values(status=target.value, **values))


def cancel_requested(session: Session, run_id: int) -> bool:
    """Whether cancellation of a run was requested."""
    return session.scalar(select(RunRow.cancel_requested_at).where(RunRow.id == run_id)) is not None


def write(session: Session, run_id: int, epoch: int, *conditions: Condition, **values: Any) -> bool:
    """Fenced write: change a running run's columns if its attempt is still `epoch`. False otherwise."""
    query = update(RunRow).where(
        RunRow.id == run_id, RunRow.status == RunStatus.RUNNING.value, RunRow.epoch == epoch, *conditions
    )
    return changed(session, query.values(**values))


def ask_to_cancel(session: Session, run_id: int, at: datetime) -> bool:
    """Request the cancellation of a running run; its worker reads the request with its next report."""
    query = update(RunRow).where(RunRow.id == run_id, RunRow.status == RunStatus.RUNNING.value)
    return changed(session, query.values(cancel_requested_at=func.coalesce(RunRow.cancel_requested_at, at)))
