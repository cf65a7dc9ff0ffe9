"""A run with more devices than any live worker has: which workers' GPUs it takes.

The worker that claims it takes all of them at once, its own and those of others, in the transaction that takes the run:
either the run gets every GPU that it needs, or none. So two such runs never wait for each other, each with a half.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy.orm import Session

from app.domain.runs.spec import RunSpec
from app.store.resources import devices
from app.store.tables import DeviceRow, WorkerRow
from app.store.workers import clock
from app.store.workers import queries as workers


@dataclass(frozen=True)
class HostShare:
    """The GPUs of one worker that an attempt has."""

    worker: str
    address: str
    gpus: tuple[str, ...]
    """Their UUIDs, one for each process."""


@dataclass(frozen=True)
class Installation:
    """The live workers that could train a run together with one of them, itself first, and their working GPUs of the
    model of its first one."""

    gpus: dict[str, list[DeviceRow]]
    """By worker. A GPU that two workers see counts once."""
    addresses: dict[str, str]
    most: int
    """GPUs of any kind of the live worker that has the most: a run with fewer waits for that one."""

    @property
    def total(self) -> int:
        """GPUs of all of them, free or not."""
        return sum(map(len, self.gpus.values()))

    def choose(self, count: int) -> list[tuple[str, list[str]]] | None:
        """So many free GPUs of the fewest workers, by worker, the claiming one first; None if fewer are free,
        or a live worker has so many itself."""
        free = {name: [row.uuid for row in rows if row.run_id is None] for name, rows in self.gpus.items()}
        if count <= self.most:
            return None
        own, *others = free
        chosen: list[tuple[str, list[str]]] = []
        for name in (own, *sorted(others, key=lambda name: (-len(free[name]), name))):
            left = count - sum(len(uuids) for _name, uuids in chosen)
            if free[name][:left]:
                chosen.append((name, free[name][:left]))
            elif name == own:
                return None
        return chosen if sum(len(uuids) for _name, uuids in chosen) == count else None


def installation(
    session: Session, spec: RunSpec, worker: str, gpus: Sequence[str], lease_seconds: float
) -> Installation | None:
    """What a run could be trained on by a worker with these GPUs (UUIDs, the preferred first) and others that it
    reaches; None if the worker takes part in no run on several hosts."""
    at = clock.now(session)
    live = workers.all_seen(session, at - timedelta(seconds=lease_seconds))
    able = {row.name: row for row in live if not row.draining and spec.needed <= set(row.capabilities)}
    this = able.get(worker)
    if this is None or this.address is None:
        return None
    working = {name: _working(row) for name, row in able.items()}
    working[worker] = [uuid for uuid in gpus if uuid in working[worker]]
    rows = devices.some(session, [uuid for uuids in working.values() for uuid in uuids])
    own = [rows[uuid] for uuid in working[worker] if uuid in rows]
    if not own:
        return None
    first = next((gpu for gpu in own if gpu.run_id is None), own[0])
    reached = [this, *(row for name, row in sorted(able.items()) if name != worker and _reach(this, row))]
    counted: set[str] = set()
    alike: dict[str, list[DeviceRow]] = {}
    for row in reached:
        mine = [rows[uuid] for uuid in working[row.name] if uuid in rows and uuid not in counted]
        counted |= {gpu.uuid for gpu in mine}
        alike[row.name] = [gpu for gpu in mine if gpu.name == first.name]
    most = max(map(len, working.values()))
    return Installation(alike, {row.name: row.address or "" for row in reached}, most)


def take_gpus(session: Session, found: Installation, count: int) -> list[HostShare] | None:
    """Lock the GPUs that a run is given, each worker's; None unless all of them are free."""
    if (chosen := found.choose(count)) is None:
        return None
    shares = []
    for name, uuids in chosen:
        locked = devices.lock_free(session, uuids, len(uuids))
        if len(locked) < len(uuids):  # another transaction takes one at this moment
            return None
        shares.append(HostShare(name, found.addresses[name], tuple(locked)))
    return shares


def waiting(worker: str, has: int, count: int, several: Installation | None) -> str:
    """A line for the log of a run on `count` GPUs: what it waits for, after a worker with `has` working ones has
    refused it; `several`: what that worker has together with others that it reaches."""
    if several is not None and several.most < count and len(several.gpus) > 1:
        names = ", ".join(several.gpus)
        if several.total >= count:
            return f"Waiting for {count} GPUs of one model: {names} have fewer that are free."
        return f"Waiting for workers with {count} GPUs of one model: {names} have {several.total}."
    if count > has > 0:
        return f"Waiting for a worker with {count} GPUs: {worker} has {has}."
    if count > 1:
        return f"Waiting for {count} GPUs: {worker} has fewer that are free."
    return f"Waiting for a GPU: {worker} has none that is free."


def _working(row: WorkerRow) -> list[str]:
    return [gpu.uuid for gpu in row.devices if not gpu.problem]


def _reach(one: WorkerRow, another: WorkerRow) -> bool:
    """Whether two workers can meet: a loopback address is that of one host only."""
    if one.address is None or another.address is None:
        return False
    return one.address.startswith("127.") == another.address.startswith("127.")
