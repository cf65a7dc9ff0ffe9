"""Workers: sign on, list the live ones, and find out which can execute a method."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from sqlalchemy.orm import Session

from app.domain.errors import FieldError
from app.domain.messages import _
from app.domain.resources.devices import Gpu, VisibleGpu
from app.domain.runs.capabilities import CAPABILITIES, Capability
from app.settings import Settings
from app.store.resources import devices
from app.store.runs import queries as runs
from app.store.tables import DeviceRow, WorkerRow, now
from app.store.workers import clock
from app.store.workers import queries as workers

REMEMBER = timedelta(hours=24)
FORGET = timedelta(days=30)
"""A worker that returns earlier keeps its measured throughput; a replaced container never returns."""
AWAY = timedelta(minutes=5)
"""A worker without a heartbeat for this long counts as offline; a restart takes less time."""

PROBLEM_CHARACTERS = 600

WorkerState = Literal["idle", "running", "draining", "lost"]


@dataclass(frozen=True)
class DeviceView:
    """A GPU that a worker may use."""

    uuid: str
    name: str
    memory_bytes: int
    free_bytes: int | None
    """By its driver, at the last heartbeat; null if unknown."""
    run_id: int | None
    worker: str | None
    """The worker that executes this run: another one, where two see the same GPU."""
    in_private: bool
    """A run has it that the viewer may not see."""
    problem: str
    """Why runs cannot use it any more; empty if they can."""


@dataclass(frozen=True)
class WorkerView:
    name: str
    device: str
    device_name: str
    memory_bytes: int | None
    cores: int
    bf16: bool
    matmul_flops: float | None
    """Matrix-product throughput, as the last finished attempt measured it, operations per second."""
    capabilities: list[str]
    """Capabilities that not every worker has: `qlora`."""
    state: WorkerState
    run_id: int | None
    seconds_since_heartbeat: float
    context_bytes: int | None = None
    """GPU memory of a process before its first tensor, as the worker measured it; null on a CPU or if unknown."""
    problem: str = ""
    """A sentence about a GPU of its machine that cannot be used."""
    matmul_rates: dict[str, float] = field(default_factory=dict)
    """The same throughput for the products of a layer, by its width; empty until an attempt has measured it."""
    devices: list[DeviceView] = field(default_factory=list)
    """Its GPUs, each with the run that has it; empty on a CPU."""
    in_private: bool = False
    """It executes a run that the viewer may not see."""

    @property
    def takes_runs(self) -> bool:
        """It could take another run now."""
        free = any(not (gpu.run_id or gpu.in_private or gpu.problem) for gpu in self.devices)
        return self.state in ("idle", "running") and (free if self.devices else not (self.run_id or self.in_private))


def sign_on(
    session: Session,
    name: str,
    *,
    device: str,
    device_name: str,
    memory_bytes: int | None,
    cores: int,
    bf16: bool = False,
    capabilities: Sequence[Capability] = (),
    context_bytes: int | None = None,
    problem: str = "",
    gpus: Sequence[Gpu] = (),
) -> None:
    """Register a worker under its name, idle and not draining, with the GPUs that it may use.

    A GPU that an earlier attempt has stays taken until the sweep ends its lease.
    """
    at = clock.now(session)
    devices.register(session, gpus)
    known = workers.get(session, name)
    same = known if known and known.device_name == device_name else None
    session.merge(
        WorkerRow(
            name=name,
            device=device,
            device_name=device_name,
            memory_bytes=memory_bytes,
            cores=cores,
            bf16=bf16,
            matmul_flops=same.matmul_flops if same else None,
            matmul_rates=same.matmul_rates if same else {},
            capabilities=list(capabilities),
            devices_json=[VisibleGpu(uuid=gpu.uuid).model_dump() for gpu in gpus],
            context_bytes=context_bytes,
            problem=problem[:PROBLEM_CHARACTERS] or None,
            run_id=None,
            draining=False,
            started_at=now(),
            heartbeat_at=at,
        )
    )


def live(session: Session, settings: Settings) -> list[WorkerView]:
    """Workers with a heartbeat in the last day; a worker whose heartbeat is older than a lease is lost, unless it was
    told to stop: then it has ended."""
    at = clock.now(session)
    rows = workers.all_seen(session, at - REMEMBER)
    gpus = devices.some(session, [gpu.uuid for row in rows for gpu in row.devices])
    seen = runs.visible(session, [i for i in {*(row.run_id for row in rows), *(g.run_id for g in gpus.values())} if i])
    views = [_view(row, (at - row.heartbeat_at).total_seconds(), settings, gpus, seen) for row in rows]
    return [view for view, row in zip(views, rows, strict=True) if not (row.draining and view.state == "lost")]


def forget(session: Session) -> None:
    """Delete the rows of workers that have been away for a month, and those of GPUs that no worker has any more."""
    workers.delete_unseen(session, clock.now(session) - FORGET)
    devices.delete_unlisted(session)


def lacking(session: Session, needs: Iterable[Capability]) -> FieldError | None:
    """Why no worker can execute a method with these needs, or None.

    The live workers decide. If there are none, the workers of the last day do, since one of them could return. The
    result is also None if no worker has ever reported: a run may be queued before its worker starts. A worker that
    cannot execute the run then writes that to the run's log (`unable`).
    """
    at = clock.now(session)
    known = workers.all_seen(session, at - REMEMBER)
    present = [row for row in known if row.heartbeat_at >= at - AWAY] or known
    for need in sorted(needs):
        if present and not any(need in row.capabilities for row in present):
            facts = CAPABILITIES[need]
            what = _("None of the workers (%(present)s) %(lacking)s", present=_names(present), lacking=facts.lacking)
            if able := [row for row in known if need in row.capabilities]:
                what = _("%(what)s; %(able)s has it, but is offline", what=what, able=_names(able))
            return FieldError("kind", what, facts.remedy)
    return None


def unable(session: Session, name: str, needs: Iterable[Capability]) -> str | None:
    """A line for the log of a run that this worker cannot execute: what the run waits for, and what to do. None if the
    worker can."""
    row = workers.get(session, name)
    for need in sorted(needs):
        if row is None or need not in row.capabilities:
            facts = CAPABILITIES[need]
            return f"Waiting for a worker that {facts.lacking}. {facts.remedy}."
    return None


def _names(rows: Iterable[WorkerRow]) -> str:
    return ", ".join(row.name for row in rows)


def _view(
    row: WorkerRow, age: float, settings: Settings, gpus: Mapping[str, DeviceRow], seen: Collection[int]
) -> WorkerView:
    """`seen`: the runs that the viewer may see; of others only that there is one."""
    state: WorkerState
    if age > settings.lease_seconds:
        state = "lost"
    elif row.draining:
        state = "draining"
    else:
        state = "running" if row.run_id is not None else "idle"
    return WorkerView(
        name=row.name,
        device=row.device,
        device_name=row.device_name,
        memory_bytes=row.memory_bytes,
        cores=row.cores,
        bf16=row.bf16,
        matmul_flops=row.matmul_flops,
        capabilities=row.capabilities,
        state=state,
        run_id=row.run_id if row.run_id in seen else None,
        in_private=row.run_id is not None and row.run_id not in seen,
        seconds_since_heartbeat=max(0.0, age),
        context_bytes=row.context_bytes,
        problem=row.problem or "",
        matmul_rates=row.matmul_rates,
        devices=[_device_view(gpu, gpus[gpu.uuid], seen) for gpu in row.devices if gpu.uuid in gpus],
    )


def _device_view(gpu: VisibleGpu, row: DeviceRow, seen: Collection[int]) -> DeviceView:
    return DeviceView(
        uuid=row.uuid,
        name=row.name,
        memory_bytes=row.memory_bytes,
        free_bytes=gpu.free_bytes,
        run_id=row.run_id if row.run_id in seen else None,
        worker=row.worker,
        in_private=row.run_id is not None and row.run_id not in seen,
        problem=gpu.problem,
    )
