"""Device time of users, and the runs that take it: of all of a user's runs, for any viewer."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import func, insert, literal, select
from sqlalchemy.orm import Session

from app.domain.runs.status import RunStatus
from app.store.database.base import UtcDateTime
from app.store.database.ownership import EVERY_OWNER
from app.store.runs.queries import HERE, LIVE
from app.store.tables import DeviceUsageRow, RunRow, UserRow


class LiveRun(NamedTuple):
    """What a queued or running run reserves of its owner's device time."""

    owner_id: int
    status: str
    reserved: float
    charged: float
    attempt: float


def lock_account(session: Session, user_id: int) -> None:
    """Lock a user until the transaction ends: of two that ask for what is left, the second sees what the first took.
    It is locked after studies and datasets, before GPUs and workers. Logins do not wait for it."""
    session.execute(select(UserRow.id).where(UserRow.id == user_id).with_for_update(key_share=True))


def running_of(session: Session, owner_id: int) -> int:
    """How many runs of a user workers execute."""
    query = select(func.count()).where(RunRow.status == RunStatus.RUNNING.value, RunRow.owner_id == owner_id, HERE)
    return int(session.scalar(query.select_from(RunRow).execution_options(**EVERY_OWNER)) or 0)


def running_by_owner(session: Session) -> dict[int, int]:
    """The same of every user that has running runs."""
    query = select(RunRow.owner_id, func.count()).where(
        RunRow.status == RunStatus.RUNNING.value, RunRow.owner_id.is_not(None), HERE
    )
    rows = session.execute(query.group_by(RunRow.owner_id).execution_options(**EVERY_OWNER))
    return {owner_id: count for owner_id, count in rows if owner_id is not None}


def running_runs(session: Session) -> list[LiveRun]:
    """The runs of all users that workers execute."""
    columns = RunRow.owner_id, RunRow.status, RunRow.reserved_seconds, RunRow.charged_seconds, RunRow.attempt_seconds
    query = select(*columns).where(RunRow.status == RunStatus.RUNNING.value, RunRow.owner_id.is_not(None), HERE)
    rows = session.execute(query.execution_options(**EVERY_OWNER))
    return [LiveRun(owner or 0, status, kept, charged, used) for owner, status, kept, charged, used in rows]


def live_runs(session: Session, owner_ids: Sequence[int]) -> list[LiveRun]:
    """The queued and running runs of some users."""
    columns = (
        RunRow.owner_id, RunRow.status, RunRow.reserved_seconds, RunRow.charged_seconds, RunRow.attempt_seconds
    )  # fmt: skip
    query = select(*columns).where(RunRow.status.in_(LIVE), RunRow.owner_id.in_(owner_ids), HERE)
    rows = session.execute(query.execution_options(**EVERY_OWNER))
    return [LiveRun(owner or 0, status, kept, charged, used) for owner, status, kept, charged, used in rows]


def used_seconds(session: Session, user_ids: Sequence[int], since: datetime) -> dict[int, float]:
    """The device-seconds of the attempts of some users that have ended since a time."""
    query = select(DeviceUsageRow.user_id, func.sum(DeviceUsageRow.seconds)).where(
        DeviceUsageRow.user_id.in_(user_ids), DeviceUsageRow.ended_at >= since
    )
    return {user_id: float(seconds) for user_id, seconds in session.execute(query.group_by(DeviceUsageRow.user_id))}


def charge(session: Session, run_id: int, at: datetime) -> None:
    """Charge the owner of a run, if it has one, for the attempt that has just ended."""
    ended = select(
        RunRow.owner_id, RunRow.id, RunRow.epoch, literal(at, UtcDateTime()), RunRow.attempt_seconds
    ).where(RunRow.id == run_id, RunRow.owner_id.is_not(None), RunRow.epoch > 0)  # fmt: skip
    columns = ["user_id", "run_id", "epoch", "ended_at", "seconds"]
    session.execute(insert(DeviceUsageRow).from_select(columns, ended), execution_options=EVERY_OWNER)
