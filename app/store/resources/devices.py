"""GPUs: which exist, and which attempt has them.

A transaction that changes both devices and workers changes the devices first, so that none waits for the other.
"""

from collections.abc import Sequence

from sqlalchemy import case, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from app.domain.resources.devices import Gpu
from app.store.database.rows import affected
from app.store.tables import DeviceRow, WorkerRow


def register(session: Session, gpus: Sequence[Gpu]) -> None:
    """Insert GPUs, or update their facts; what has them stays."""
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    for gpu in sorted(gpus, key=lambda gpu: gpu.uuid):
        facts = {"name": gpu.name, "memory_bytes": gpu.memory_bytes}
        new = insert(DeviceRow).values(uuid=gpu.uuid, **facts)
        session.execute(new.on_conflict_do_update(index_elements=["uuid"], set_=facts))


def some(session: Session, uuids: Sequence[str]) -> dict[str, DeviceRow]:
    """Those of some GPUs that are registered, by UUID."""
    rows = session.scalars(select(DeviceRow).where(DeviceRow.uuid.in_(uuids))) if uuids else ()
    return {row.uuid: row for row in rows}


def free(session: Session) -> set[str]:
    """The GPUs that an attempt could take."""
    return set(session.scalars(select(DeviceRow.uuid).where(DeviceRow.run_id.is_(None))))


def lock_free(session: Session, uuids: Sequence[str], count: int) -> list[str]:
    """At most `count` free GPUs, the first of `uuids` that are, locked until the transaction ends. A GPU that another
    transaction takes at this moment is not free."""
    if not uuids:
        return []
    order = case({uuid: place for place, uuid in enumerate(uuids)}, value=DeviceRow.uuid)
    query = (
        select(DeviceRow.uuid)
        .where(DeviceRow.uuid.in_(uuids), DeviceRow.run_id.is_(None))
        .order_by(order)
        .limit(count)
        .with_for_update(skip_locked=True)
    )
    return list(session.scalars(query))


def take(session: Session, uuids: Sequence[str], *, run_id: int, epoch: int, worker: str) -> int:
    """Give free GPUs to an attempt. Returns the number of those that were free."""
    query = update(DeviceRow).where(DeviceRow.uuid.in_(uuids), DeviceRow.run_id.is_(None))
    return affected(session, query.values(run_id=run_id, epoch=epoch, worker=worker))


def lock_of(session: Session, run_ids: Sequence[int]) -> None:
    """Lock the GPUs of several runs until the transaction ends, in the order in which `register` locks them."""
    query = select(DeviceRow.uuid).where(DeviceRow.run_id.in_(run_ids)).order_by(DeviceRow.uuid)
    session.execute(query.with_for_update())


def pass_on(session: Session, run_id: int, epoch: int, *, to_run_id: int, to_epoch: int) -> None:
    """Give the GPUs of an attempt to another one of the same group."""
    query = update(DeviceRow).where(DeviceRow.run_id == run_id, DeviceRow.epoch == epoch)
    session.execute(query.values(run_id=to_run_id, epoch=to_epoch))


def release(session: Session, run_id: int, epoch: int) -> int:
    """Free the GPUs that an attempt has. Returns their number."""
    query = update(DeviceRow).where(DeviceRow.run_id == run_id, DeviceRow.epoch == epoch)
    return affected(session, query.values(run_id=None, epoch=None, worker=None))


def delete_unlisted(session: Session) -> None:
    """Delete the free GPUs that no worker lists. One that a worker registers at this moment stays."""
    if not (unlisted := _free_unlisted(session)):
        return
    query = select(DeviceRow.uuid).where(DeviceRow.uuid.in_(unlisted)).order_by(DeviceRow.uuid)
    locked = set(session.scalars(query.with_for_update(skip_locked=True)))
    unlisted = locked & _free_unlisted(session)  # a worker may have listed one before it was locked
    session.execute(delete(DeviceRow).where(DeviceRow.uuid.in_(unlisted)))


def _free_unlisted(session: Session) -> set[str]:
    return free(session) - {gpu["uuid"] for gpus in session.scalars(select(WorkerRow.devices_json)) for gpu in gpus}
