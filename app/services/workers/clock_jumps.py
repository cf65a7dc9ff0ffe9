"""Jumps of the database's clock, noticed by the monotonic clock of the process that sweeps.

A jump forward would end the leases of all live workers, and a jump back would keep that of a lost one. So after a jump
every lease begins anew: live workers renew theirs, and that of a lost one ends after its time.
"""

import time
from datetime import datetime, timedelta

import structlog
from sqlalchemy.orm import Session

from app.store.database.session import after_commit
from app.store.workers import clock

log = structlog.get_logger()

TOLERATED = 3
"""A jump of a third of the lease ends none: a live worker renews its lease several times as often."""


class ClockWatch:
    """Compares the database's clock with this process's between two sweeps. The first sweep has nothing to compare."""

    def __init__(self) -> None:
        self._last: tuple[datetime, float] | None = None

    def look(self, session: Session, lease_seconds: float) -> bool:
        """Renew every lease if the clock has jumped since the last look. Whether it has."""
        at, here = clock.now(session), time.monotonic()
        last, jumped = self._last, 0.0
        if last is not None:
            jumped = (at - last[0]).total_seconds() - (here - last[1])
        after_commit(session, lambda: setattr(self, "_last", (at, here)))
        if abs(jumped) <= lease_seconds / TOLERATED:
            return False
        log.warning("the database's clock has jumped; every lease begins anew", seconds=round(jumped, 1))
        clock.renew_everything(session, at, timedelta(seconds=lease_seconds))
        return True
