"""The life of a run in the database, step by step, without a worker."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from sqlalchemy import update
from sqlalchemy.orm import Session

from app.domain.methods import LoraSpec
from app.domain.runs.spec import RunSpec
from app.services.runs import attempts, runs
from app.services.runs.attempts import Claim
from app.store.database.session import Database
from app.store.runs import queries as run_queries
from app.store.tables import RunRow, now
from tests.support.fakes.fakes import SilentBell

SPEC = RunSpec(base_model="tiny", dataset="small", method=LoraSpec(r=2, target_modules=["query"]))
LEASE = 45.0


def submit(db: Database, bell: SilentBell, spec: RunSpec = SPEC) -> int:
    """Queue a run."""
    with db.transaction() as session:
        return runs.submit(session, bell, spec).id


def claim(db: Database, run_id: int, worker: str = "w1") -> Claim | None:
    """Claim it for a worker."""
    with db.transaction() as session:
        return attempts.claim(session, run_id, worker, LEASE)


def claimed(db: Database, bell: SilentBell) -> Claim:
    """A run that a worker has claimed."""
    found = claim(db, submit(db, bell))
    assert found is not None
    return found


def in_transaction(db: Database, act: Callable[[Session], Any]) -> Any:
    """Do something in a transaction of its own."""
    with db.transaction() as session:
        return act(session)


def row(db: Database, run_id: int) -> RunRow:
    """The run as it is now."""
    with db.reading() as session:
        return run_queries.get(session, run_id)


def let_lease_expire(db: Database, run_id: int) -> None:
    """Have its lease end a second ago."""
    past = now() - timedelta(seconds=1)
    in_transaction(db, lambda s: s.execute(update(RunRow).where(RunRow.id == run_id).values(lease_expires_at=past)))
