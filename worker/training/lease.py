"""The lease of one attempt: every database write goes through it and renews the lease or depends on it.

The trainer does not know the database. Its reports are buffered here and written about once a second, in the same
transaction that renews the lease and reads the orders (cancel, drain, pause). If the database is unreachable for longer
than the lease lasts, `LeaseLost` is raised; if another attempt has taken over the run, `attempts` raises `Fenced`.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import replace

import structlog
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from app.domain.runs.ending import Orders
from app.domain.runs.job import Report
from app.services.runs import attempts
from app.services.runs.attempts import Claim, Fenced
from app.store.database.errors import cause, undone
from app.store.database.session import Database

log = structlog.get_logger()


class LeaseLost(Exception):
    """The database wrote nothing for as long as the lease lasts; the text says why."""


class Lease:
    """The lease on a claimed run, and the reports that wait to be written with its next renewal."""

    def __init__(self, database: Database, claim: Claim, *, lease_seconds: float, renew_seconds: float) -> None:
        self._database, self._claim = database, claim
        self._lease_seconds, self._renew_seconds = lease_seconds, renew_seconds
        self._pending: list[Report] = []
        self._sending: list[Report] | None = None
        """Reports in flight until the database answers. A retry has the same number, so they are stored once."""
        self._number = 0
        self._renewed_at = time.monotonic()
        self.orders = Orders()
        self.companions: Sequence[Lease] = ()
        """Leases of the other runs of a group, renewed while this one transfers files."""
        self.keep_alive: Callable[[], object] = lambda: None
        """Renews the lease in the group's trainer."""

    @property
    def due(self) -> bool:
        """It is time to renew."""
        return time.monotonic() - self._renewed_at >= self._renew_seconds

    @property
    def ordered(self) -> bool:
        """The run is to be cancelled or paused, or its worker to stop."""
        return bool(self.orders)

    def report(self, report: Report) -> None:
        """Write `report` with the next renewal."""
        self._pending.append(report)

    def renew(self) -> None:
        """Write the waiting reports, renew the lease and read the orders. Raises Fenced and OperationalError."""
        if self._sending is None:
            self._sending, self._pending = self._pending, []
            self._number += 1
        with self._database.transaction() as session:
            orders = attempts.report(session, self._claim, self._number, self._sending, self._lease_seconds)
        self.orders = replace(orders, pause=orders.pause or self.orders.pause)  # the trainer stops already
        self._sending = None
        self._renewed_at = time.monotonic()

    def cause(self, error: Exception) -> str:
        """Why the database did not write, for a log."""
        return cause(error, self._database.url)

    def refresh(self) -> None:
        """Renew, and wait for the database if need be. Raises Fenced, LeaseLost."""
        self._persist(self.renew)

    def raise_if_lost(self, error: Exception) -> None:
        """Raise LeaseLost, because of an error, if the lease has run out since it was last renewed."""
        if time.monotonic() - self._renewed_at > self._lease_seconds:
            raise LeaseLost(self.cause(error)) from error

    def flush(self) -> None:
        """Write every waiting report. Raises Fenced, LeaseLost."""
        while self._pending or self._sending is not None:
            self._persist(self.renew)

    def write(self, change: Callable[[Session], None]) -> None:
        """Commit `change`. Raises Fenced, LeaseLost."""

        def once() -> None:
            with self._database.transaction() as session:
                change(session)

        self._persist(once)

    def while_renewing(self, transfer: Callable[[], None]) -> None:
        """Run `transfer`, which may take longer than the lease, and keep renewing meanwhile."""
        with ThreadPoolExecutor(1) as pool:
            moving = pool.submit(transfer)
            while not wait([moving], timeout=self._renew_seconds).done:
                self._persist(self.renew)
                for companion in self.companions:
                    with suppress(Fenced, LeaseLost):  # it finds out itself
                        companion._persist(companion.renew)
                self.keep_alive()
        moving.result()

    def pause(self, seconds: float) -> None:
        """Wait and keep renewing; an order ends the wait early. Raises Fenced, LeaseLost."""
        end = time.monotonic() + seconds
        while not self.ordered and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, self._renew_seconds))
            self._persist(self.renew)

    def _persist(self, write: Callable[[], None]) -> None:
        """Retry `write` until the database answers or the lease runs out. Raises LeaseLost."""
        while True:
            try:
                write()
                return
            except OperationalError as error:
                log.warning(f"{self.cause(error)}; retrying", error=str(error.orig))
                self.raise_if_lost(error)
                if not undone(error):
                    time.sleep(self._renew_seconds)
