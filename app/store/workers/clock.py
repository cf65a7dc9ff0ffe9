"""The clock of leases, heartbeats, rings and claims, the same for all processes: wall clocks of two hosts are never
compared, and a jump of one ends no lease.

    PostgreSQL   its own clock; `app.services.workers.clock_jumps` notices its jumps
    SQLite       the seconds since the machine booted (CLOCK_BOOTTIME). What ran before another boot has ended: its
                 leases and claims expire at once

A system that names no boot has its wall clock only.
"""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine, Update, func, select, update
from sqlalchemy.orm import Session

from app.domain.runs.status import RunStatus
from app.store.database.base import UtcDateTime
from app.store.database.ownership import EVERY_OWNER, kinds
from app.store.database.session import after_commit
from app.store.tables import BaseModelRow, ClockRow, DatasetRow, EstimateRow, RunRow, UploadRow, WorkerRow
from app.store.tables import now as wall_clock
from app.store.workers.tables import Repeated, WorkRow

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
LONGEST_PAUSE = timedelta(days=1)
"""Between two attempts of repeated work; a later one was planned by a clock that has jumped."""
_booted: WeakKeyDictionary[Engine | Connection, datetime] = WeakKeyDictionary()


def now(session: Session) -> datetime:
    """The current time of the database's clock, aware, in UTC."""
    if session.get_bind().dialect.name != "sqlite":
        return session.scalars(select(func.clock_timestamp(type_=UtcDateTime()))).one()
    boot = boot_id()
    return _booted_at(session, boot) + _since_boot() if boot else wall_clock()


@cache
def boot_id() -> str:
    """The kernel's name of this boot; empty if it has none."""
    try:
        return BOOT_ID.read_text().strip() if hasattr(time, "CLOCK_BOOTTIME") else ""
    except OSError:
        return ""


def _since_boot() -> timedelta:
    return timedelta(seconds=time.clock_gettime(time.CLOCK_BOOTTIME))


def _booted_at(session: Session, boot: str) -> datetime:
    """When the machine booted, as all processes have it: the first that writes after a boot decides."""
    engine = session.get_bind()
    if (known := _booted.get(engine)) is not None:
        return known
    row = session.get(ClockRow, 1)
    if row is not None and row.boot_id == boot:
        _booted[engine] = row.booted_at
        return row.booted_at
    booted_at = wall_clock() - _since_boot()
    if session.connection().get_execution_options().get("vezna_write"):
        if row is not None:
            _expire_everything(session, booted_at)
        session.merge(ClockRow(id=1, boot_id=boot, booted_at=booted_at))
        session.flush()
        after_commit(session, lambda: _booted.__setitem__(engine, booted_at))
    return booted_at


def _expire_everything(session: Session, booted_at: datetime) -> None:
    """End what began before the boot: leases, heartbeats, rings and claims."""
    for query in (
        update(RunRow).where(RunRow.status == RunStatus.RUNNING.value).values(lease_expires_at=LONG_AGO),
        update(RunRow).where(RunRow.rung_at.is_not(None)).values(rung_at=None),
        update(WorkerRow).values(heartbeat_at=booted_at - timedelta(hours=1)),
        update(EstimateRow).where(EstimateRow.status == "working").values(seen_at=LONG_AGO),
        update(EstimateRow).where(EstimateRow.rung_at.is_not(None)).values(rung_at=None),
        update(BaseModelRow).where(BaseModelRow.status == "inspecting").values(inspection_started_at=None),
        update(UploadRow).where(UploadRow.status == "reading").values(seen_at=None, rung_at=None),
        update(DatasetRow).where(DatasetRow.status == "preparing").values(seen_at=None, rung_at=None),
        *(update(table).where(table.status == "running").values(seen_at=LONG_AGO) for table in kinds(WorkRow)),
        *(update(table).where(table.rung_at.is_not(None)).values(rung_at=None) for table in kinds(WorkRow)),
        *(
            update(table).where(table.leased_until.is_not(None)).values(leased_until=LONG_AGO)
            for table in kinds(Repeated)
        ),
        *_not_in_days(booted_at),
    ):
        session.execute(query, execution_options={"synchronize_session": False, **EVERY_OWNER})


def _not_in_days(at: datetime) -> Iterator[Update]:
    """Have repeated work begin that a clock that has jumped would put off for days."""
    for table in kinds(Repeated):
        yield update(table).where(table.next_at > at + LONGEST_PAUSE).values(next_at=at)


def renew_everything(session: Session, at: datetime, lease: timedelta) -> None:
    """Count leases, heartbeats, rings and claims on uploads, datasets and requested work anew from a time, after a jump
    of the clock.

    Claims on estimates and inspections keep their time, which fences their answers: at worst one is computed twice, or
    a lost one is noticed later.
    """
    for query in (
        update(RunRow).where(RunRow.status == RunStatus.RUNNING.value).values(lease_expires_at=at + lease),
        update(RunRow).where(RunRow.status == RunStatus.QUEUED.value, RunRow.rung_at.is_not(None)).values(rung_at=at),
        update(WorkerRow).where(WorkerRow.heartbeat_at > at).values(heartbeat_at=at),
        update(EstimateRow).where(EstimateRow.rung_at > at).values(rung_at=at),
        update(UploadRow).where(UploadRow.status == "reading", UploadRow.seen_at.is_not(None)).values(seen_at=at),
        update(DatasetRow).where(DatasetRow.status == "preparing", DatasetRow.seen_at.is_not(None)).values(seen_at=at),
        *(update(table).where(table.status == "running").values(seen_at=at) for table in kinds(WorkRow)),
        *(update(table).where(table.rung_at.is_not(None)).values(rung_at=at) for table in kinds(WorkRow)),
        *(
            update(table).where(table.leased_until.is_not(None)).values(leased_until=at + lease)
            for table in kinds(Repeated)
        ),
        *_not_in_days(at),
    ):
        session.execute(query, execution_options={"synchronize_session": False, **EVERY_OWNER})
