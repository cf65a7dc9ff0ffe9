"""Workers: sign on, give signs of life, drain; and who is there."""

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from sqlalchemy.orm import Session

from app.domain.capabilities import CAPABILITIES, Capability
from app.domain.errors import FieldError
from app.settings import Settings
from app.store.queries import workers
from app.store.tables import WorkerRow, now

REMEMBER = timedelta(hours=24)

WorkerState = Literal["idle", "running", "draining", "lost"]


@dataclass(frozen=True)
class WorkerView:
    """A worker as a page shows it."""

    name: str
    device: str
    device_name: str
    memory_bytes: int | None
    cores: int
    capabilities: list[str]
    """What it can do that not every worker can: `qlora`."""
    state: WorkerState
    run_id: int | None
    seconds_since_heartbeat: float


def sign_on(
    session: Session,
    name: str,
    *,
    device: str,
    device_name: str,
    memory_bytes: int | None,
    cores: int,
    capabilities: Sequence[Capability] = (),
) -> None:
    """Make a worker known, idle and undrained; its name is its identity."""
    at = now()
    session.merge(
        WorkerRow(
            name=name,
            device=device,
            device_name=device_name,
            memory_bytes=memory_bytes,
            cores=cores,
            capabilities=list(capabilities),
            run_id=None,
            draining=False,
            started_at=at,
            heartbeat_at=at,
        )
    )


def live(session: Session, settings: Settings) -> list[WorkerView]:
    """Workers seen in the last day; one whose heartbeat is older than a lease is lost."""
    at = now()
    return [
        _view(row, (at - row.heartbeat_at).total_seconds(), settings)
        for row in workers.all_seen(session, at - REMEMBER)
    ]


def lacking(session: Session, needs: Iterable[Capability]) -> FieldError | None:
    """Why no worker of the last day could execute a method that needs these, or None.

    None too where no worker has reported at all: a run may be queued before its worker is started, and one that cannot
    execute it says so.
    """
    known = workers.all_seen(session, now() - REMEMBER)
    for need in sorted(needs):
        if known and not any(need in row.capabilities for row in known):
            facts = CAPABILITIES[need]
            names = ", ".join(row.name for row in known)
            return FieldError("kind", f"none of the workers ({names}) {facts.lacking}", facts.remedy)
    return None


def can(session: Session, name: str, needs: Set[Capability]) -> bool:
    """Whether a worker can execute a method that needs these."""
    row = workers.get(session, name)
    return needs <= set(row.capabilities if row else ())


def _view(row: WorkerRow, age: float, settings: Settings) -> WorkerView:
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
        capabilities=row.capabilities,
        state=state,
        run_id=row.run_id,
        seconds_since_heartbeat=max(0.0, age),
    )
