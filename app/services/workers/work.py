"""Work that one worker at a time does on request: exports, pushes, parity checks, judgements.

The database is the queue, as for runs: a claim is one UPDATE that raises `epoch`, and a write of a claim that was taken
over, cancelled or deleted matches no row.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Generic

from sqlalchemy.orm import Session

from app.domain.errors import Conflict
from app.domain.messages import Message
from app.queue import Doorbell
from app.services.data.ingestion import SILENT_SECONDS
from app.store.database.messages import as_stored
from app.store.database.session import after_commit
from app.store.tables import now
from app.store.workers import clock
from app.store.workers import work as queries
from app.store.workers.work import Work


@dataclass(frozen=True)
class Claimed:
    """Work that this worker has. What a kind of work adds is everything that the worker needs."""

    id: int
    epoch: int


@dataclass
class WorkKind(Generic[Work]):
    """One kind of work: submit it, claim it, report, give it back, cancel it."""

    table: type[Work]
    task: str
    """The task to ring for."""
    lost: Callable[[int], Message]
    """Why work failed that lost its worker in so many attempts."""
    at_end: Mapping[str, object] = field(default_factory=dict)
    """Columns that are cleared when it ends, however it does."""

    def submit(self, session: Session, bell: Doorbell, row: Work) -> None:
        """Queue new work; ring once it is committed."""
        row.rung_at = clock.now(session)
        session.add(row)
        session.flush()
        after_commit(session, partial(bell.ring, self.task, row.id))

    def claim(self, session: Session, row_id: int) -> Work | None:
        """Claim work, as read anew. None if it has ended, or a live worker has it."""
        at = clock.now(session)
        if not queries.begin(session, self.table, row_id, at, _silent_since(at)):
            return None
        return session.get_one(self.table, row_id, populate_existing=True)

    def progress(self, session: Session, claim: Claimed, share: float) -> bool:
        """A heartbeat, and how far the work is. False if it was cancelled or deleted, or is another worker's."""
        return self.write(session, claim, seen_at=clock.now(session), progress=min(max(share, 0.0), 1.0))

    def write(self, session: Session, claim: Claimed, **values: Any) -> bool:
        """Set columns. False as `progress`."""
        return queries.write(session, self.table, claim.id, claim.epoch, **values)

    def complete(self, session: Session, claim: Claimed, **result: Any) -> bool:
        """Write the result. False as `progress`."""
        return self.write(session, claim, status="succeeded", progress=1.0, **result, **self._ended())

    def failed(self, session: Session, claim: Claimed, message: str) -> bool:
        """Write why there is no result: a sentence. False as `progress`."""
        return self.write(session, claim, status="failed", message=as_stored(message), **self._ended())

    def give_back(self, session: Session, bell: Doorbell, claim: Claimed) -> None:
        """Queue work again whose worker shuts down; the attempt does not count."""
        values = {"status": "queued", "attempts": self.table.attempts - 1, "seen_at": None, "progress": 0.0}
        if self.write(session, claim, **values):
            after_commit(session, partial(bell.ring, self.task, claim.id))

    def cancel(self, session: Session, row: Work, ended: Callable[[str], Message]) -> None:
        """Cancel work; its worker stops within seconds. Raises Conflict with `ended` of its status if it has ended."""
        cancelled = queries.cancel(session, self.table, row.id, **self._ended())
        session.refresh(row)
        if not cancelled:
            raise Conflict(ended(row.status))

    def ring_again(
        self, session: Session, bell: Doorbell, at: datetime, rung_before: datetime, max_attempts: int
    ) -> None:
        """Ring for what waits and whose ring was lost; end what has lost too many workers. The sweep does this."""
        for row in queries.waiting(session, self.table, _silent_since(at), rung_before):
            if row.attempts >= max_attempts:
                ended = {"status": "failed", "message": self.lost(row.attempts), **self._ended()}
                for name, value in ended.items():
                    setattr(row, name, value)
                continue
            row.rung_at = at
            after_commit(session, partial(bell.ring, self.task, row.id))

    def _ended(self) -> dict[str, Any]:
        return {"ended_at": now(), **self.at_end}


def _silent_since(at: datetime) -> datetime:
    """A live worker has sent a heartbeat since; an older claim may be taken over."""
    return at - timedelta(seconds=SILENT_SECONDS)
