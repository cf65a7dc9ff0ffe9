"""The further hosts of a run, from the side of the worker that has rank 0: ring for them, tell them where to meet, and
notice when one cannot go on.

What they write comes with each renewal of the run's lease (`Orders.others`). Nothing here waits without an end: hosts
that have not joined, or have not met once all are ready, are released after VEZNA_JOIN_SECONDS.
"""

import time
from dataclasses import dataclass
from typing import Literal

from app.domain.failures import FAILURES, Failure, FailureCode
from app.domain.messages import _
from app.domain.runs.checkpoint import StoredCheckpoint
from app.domain.runs.hosts import HostState, blamed, of_connection
from app.domain.runs.job import FailureReport, ListeningReport, MetReport, ResultReport
from app.services.runs.attempts import Claim, hosts
from worker.context import Context
from worker.training.lease import Lease

RING_SECONDS = 5.0
"""Pause between two rings for a host that has not joined."""
GRACE_SECONDS = 15.0
"""How long a failure of rank 0 waits for what another host reports: the death of a process there breaks rank 0's
connections before its worker has written that it died."""


@dataclass(frozen=True)
class Again:
    """Queue the run again; the attempt counts."""

    failure: Failure


@dataclass(frozen=True)
class Later:
    """Queue the run again; the attempt does not count."""

    why: str


@dataclass(frozen=True)
class Failed:
    """End the run as failed."""

    failure: Failure


KILLED = FAILURES[FailureCode.KILLED]
OtherEnd = Again | Later | Failed


class OtherHosts:
    """The further hosts of one attempt."""

    def __init__(self, context: Context, claim: Claim, lease: Lease) -> None:
        self._context, self._claim, self._lease = context, claim, lease
        self._listening = self._met = False
        self._waiting: Literal["to join", "to be ready", "to meet"] = "to join"
        self._since = time.monotonic()
        self._rung_at = -RING_SECONDS

    def await_them(self) -> None:
        """From now on they have to join: rank 0 starts."""
        self._since = time.monotonic()

    def take(self, report: ListeningReport | MetReport, resumed: StoredCheckpoint | None) -> None:
        """Publish where rank 0 listens, and the checkpoint from which it resumes; note that all have met. Raises
        Fenced, LeaseLost."""
        if isinstance(report, MetReport):
            self._met = True
            return
        self._listening = True
        prefix = resumed.prefix if resumed else None
        self._lease.write(lambda session: hosts.publish(session, self._claim, report.endpoint, prefix))

    @property
    def broken(self) -> bool:
        """The attempt cannot go on. Rings for those that have not joined."""
        if not self._met:
            self._ring()
            self._advance()
        gone = any(other.lost or other.ended in ("failed", "unable") for other in self._others)
        leaving = any(other.draining and not other.joined for other in self._others)  # it will not join
        return gone or leaving or self._late

    def end(self, report: ResultReport | FailureReport | None) -> OtherEnd | None:
        """How the attempt ends if another host is the reason, after rank 0 has ended with a failure or without a
        report; None if none is. Raises Fenced, LeaseLost."""
        own = report.failure if isinstance(report, FailureReport) else None
        if own is not None:
            self._settle()
        for other in self._others:
            if other.lost and other.failure is not None:
                text = f"{other.worker}: {other.failure.message}"
                return Again(other.failure.model_copy(update={"message": text}))
            if other.lost:
                text = _("A process of the run on %(worker)s was lost. %(what)s", worker=other.worker, what=KILLED)
                return Again(Failure(code=FailureCode.KILLED, message=text))
            if other.ended == "unable" and other.failure is not None:
                return Later(f"{other.worker}: {other.failure.message}")
        if own is None and self._late:
            return Again(self._not_joined())
        failure = blamed(own, self._others)
        if failure is None:
            return None
        if failure.code == FailureCode.NOT_JOINED:
            return Again(failure)
        if of_connection(failure):
            text = _(
                "Another host of the run, or the connection to it, was lost (%(why)s). %(what)s",
                why=failure.message.rstrip("."),
                what=KILLED,
            )
            return Again(Failure(code=FailureCode.KILLED, message=text))
        return None if failure is own else Failed(failure)

    @property
    def _others(self) -> tuple[HostState, ...]:
        return self._lease.orders.others

    @property
    def _late(self) -> bool:
        waited = time.monotonic() - self._since
        return not self._met and self._waiting != "to be ready" and waited > self._context.settings.join_seconds

    def _ring(self) -> None:
        moment = time.monotonic()
        if moment - self._rung_at < RING_SECONDS:
            return
        self._rung_at = moment
        for other in self._others:
            if not other.joined and other.ended is None:
                self._context.bell.ring_worker(other.worker, self._claim.run_id)

    def _advance(self) -> None:
        """What the attempt waits for. Preparing takes as long as a download, and has no deadline: each host renews its
        lease meanwhile."""
        if not all(other.joined for other in self._others):
            waiting: Literal["to join", "to be ready", "to meet"] = "to join"
        else:
            waiting = "to meet" if self._listening and all(other.ready for other in self._others) else "to be ready"
        if waiting != self._waiting:
            self._waiting, self._since = waiting, time.monotonic()

    def _settle(self) -> None:
        """Wait until the others have written how they ended."""
        until = time.monotonic() + GRACE_SECONDS
        while any(other.going_on for other in self._others) and time.monotonic() < until:
            time.sleep(self._context.settings.report_seconds)
            self._lease.refresh()

    def _not_joined(self) -> Failure:
        seconds = f"{self._context.settings.join_seconds:.0f}"
        missing = ", ".join(other.worker for other in self._others if not other.joined)
        what = FAILURES[FailureCode.NOT_JOINED]
        if missing:
            text = _(
                "%(workers)s did not join within %(seconds)s s. %(what)s", workers=missing, seconds=seconds, what=what
            )
        else:
            text = _(
                "The processes on %(workers)s did not meet within %(seconds)s s. %(what)s",
                workers=", ".join(host.worker for host in self._claim.hosts),
                seconds=seconds,
                what=what,
            )
        return Failure(code=FailureCode.NOT_JOINED, message=text)
