"""Work that one worker at a time does on request: exports, pushes, parity checks, judgements.

The database is the queue, as for runs: a claim is one UPDATE that raises `epoch`, and a write of a claim that was taken
over, cancelled or deleted matches no row.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Generic

from sqlalchemy.orm import Session

from app.broker.queue import Doorbell
from app.domain.accounts.audit import Action
from app.domain.errors import Conflict, NotFound
from app.domain.messages import Message
from app.services.data.ingestion import SILENT_SECONDS
from app.services.users import audit
from app.store.database.messages import as_stored
from app.store.database.ownership import owner_of
from app.store.database.rows import get_row
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
    """One kind of work: submit it, list it, claim it, report, give it back, cancel it."""

    table: type[Work]
    task: str
    """The task to ring for."""
    missing: Callable[[int], Message]
    """That there is none with an id."""
    over: Callable[[int, str], Message]
    """That one with an id has already ended, with its status."""
    lost: Callable[[int], Message]
    """Why work failed that lost its worker in so many attempts."""
    parent: str
    """The column with the id of what it is done for."""
    get_parent: Callable[[Session, int], object]
    """Raises NotFound."""
    change_parent: Callable[[Session, int], object]
    """Raises Forbidden if the session's viewer may not change what it is done for."""
    cancelled: Action
    audited: str
    """The column that the audit log shows of a cancel."""
    user: str = "owner_id"
    """The column with the user who asked for it."""
    has_key: bool = False
    """It has an `api_key`, encrypted, which is cleared when it ends, however it does."""

    def get(self, session: Session, row_id: int, parent_id: int | None = None, *, lock: bool = False) -> Work:
        """One of them; with `parent_id`, of this parent; with `lock`, read anew and locked. Raises NotFound."""
        row = get_row(session, self.table, row_id, self.missing(row_id), lock=lock)
        if parent_id not in (None, self._parent_of(row)):
            raise NotFound(self.missing(row_id))
        self.get_parent(session, self._parent_of(row))  # notes an admin's access to it
        return row

    def of(self, session: Session, *parent_ids: int) -> list[Work]:
        """Those of some parents, the oldest first."""
        return queries.of(session, self.table, self.parent, parent_ids)

    def own(self, session: Session, row_id: int) -> Work:
        """One of the session's viewer, or of a parent that the viewer may change. Raises NotFound and Forbidden."""
        row = self.get(session, row_id)
        if getattr(row, self.user) != owner_of(session):
            self.change_parent(session, self._parent_of(row))
        return row

    def secrets(self, session: Session) -> Iterator[tuple[Work, str]]:
        """Those with an API key, locked, each with the name of the column."""
        for row in queries.with_key(session, self.table):
            yield row, "api_key"

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

    def cancel(self, session: Session, row_id: int) -> Work:
        """Cancel work of the session's viewer, or of a parent that the viewer may change; its worker stops within
        seconds. Raises NotFound, Forbidden, and Conflict if it has ended."""
        row = self.own(session, row_id)
        cancelled = queries.cancel(session, self.table, row.id, **self._ended())
        session.refresh(row)
        if not cancelled:
            raise Conflict(self.over(row.id, row.status))
        audit.record(session, self.cancelled, row.id, **{self.audited.removesuffix("_id"): getattr(row, self.audited)})
        return row

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
        return {"ended_at": now()} | ({"api_key": ""} if self.has_key else {})

    def _parent_of(self, row: Work) -> int:
        return int(getattr(row, self.parent))


def _silent_since(at: datetime) -> datetime:
    """A live worker has sent a heartbeat since; an older claim may be taken over."""
    return at - timedelta(seconds=SILENT_SECONDS)
