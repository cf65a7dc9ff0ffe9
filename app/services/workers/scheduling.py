"""Whose run starts next: by priority, then fair shares of device time among users, then the order of the owner.

A ring says that there is work, not which. The worker that hears it takes, of the first waiting run of each user, that
with the highest priority, and of several that of the user with the least device time: used in the last seven days, or
reserved by runs that run now. A user at the limit of concurrent runs, and a run that this worker cannot execute, are
passed over, so that they keep no one else's waiting. Runs without an owner (no login) are one queue, in its own order.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy.orm import Session

from app.domain.resources.device_time import reserved
from app.domain.runs.status import RunStatus
from app.services.runs.attempts.claiming import waiting
from app.services.users import limits
from app.store.resources import devices
from app.store.runs import events
from app.store.runs import queries as runs
from app.store.tables import RunRow, WorkerRow, now
from app.store.workers import queries as workers
from app.store.workers import queue, usage
from app.store.workers.queue import Head

RECENT = timedelta(days=7)
MOST_TRIED = 16
"""Runs that a worker passes over or loses to other workers before it gives up."""


@dataclass(frozen=True)
class Shares:
    """What decides between users."""

    seconds: Mapping[int, float]
    """Device time that was used recently or is reserved by running runs, by user."""
    rooms: Mapping[int, int]
    """How many more runs may start, by user, where that is limited."""

    @classmethod
    def of(cls, session: Session, user_ids: Iterable[int]) -> "Shares":
        chosen = list(user_ids)
        seconds = usage.used_seconds(session, chosen, now() - RECENT)
        running = dict.fromkeys(chosen, 0)
        for run in usage.running_runs(session):
            if run.owner_id in running:
                running[run.owner_id] += 1
                kept = reserved(run.reserved, run.charged, run.attempt)
                seconds[run.owner_id] = seconds.get(run.owner_id, 0.0) + kept
        return cls(seconds, limits.rooms(session, chosen, running))

    def may_start(self, user_id: int) -> bool:
        """Whether another run of a user may start."""
        room = self.rooms.get(user_id)
        return room is None or room > 0


class Turns:
    """The runs that a worker is to claim when it hears a ring, one after another until a claim succeeds.

    What decides is read once, and after each run that is passed over only the queue of its owner is read again.
    """

    def __init__(
        self,
        session: Session,
        run_id: int,
        worker: str,
        gpus: Sequence[str] | None = None,
    ) -> None:
        """`run_id`: what the ring names. `gpus`: UUIDs of the worker's GPUs; None on a CPU."""
        self._session, self._rung, self._worker = session, run_id, worker
        signed_on = workers.get(session, worker)
        self._capabilities = set(signed_on.capabilities if signed_on else ())
        self._gpus = _working(signed_on, gpus or ())
        self._free = None if gpus is None else len(devices.free(session).intersection(self._gpus))
        self._passed: set[int] = set()
        rung = runs.find(session, run_id)
        self._heads: dict[int | None, Head]
        if rung is not None and rung.owner_id is None:
            first = queue.head(session, None)
            self._heads, self._shares = ({None: first} if first else {}), Shares({}, {})
        else:
            heads = queue.heads(session)
            self._heads, self._shares = dict[int | None, Head](heads.items()), Shares.of(session, heads)
        self._chosen: int | None = None

    def next(self) -> int | None:
        """The next run to claim: the one that was rung for if there is nothing better. None once every candidate was
        given."""
        if self._chosen is not None:  # its claim failed
            self._pass_over(self._chosen)
        while len(self._passed) < MOST_TRIED and (candidate := self._first()) is not None:
            run = runs.find(self._session, candidate)
            if run is not None and self._can_execute(run):
                self._chosen = candidate
                return candidate
            if run is not None and not self._fits(run):
                self._refuse(run)
            self._pass_over(candidate)
        self._chosen = None if self._rung in self._passed else self._rung
        return self._chosen

    def _first(self) -> int | None:
        """The first run of the owner with the highest priority and the least share, among those that may start a
        run."""
        may_start = [
            (head.precedence, 0.0 if owner is None else self._shares.seconds.get(owner, 0.0), head.run_id)
            for owner, head in self._heads.items()
            if owner is None or self._shares.may_start(owner)
        ]
        return min(may_start)[2] if may_start else None

    def _pass_over(self, run_id: int) -> None:
        self._passed.add(run_id)
        for owner, head in self._heads.items():
            if head.run_id == run_id:
                following = queue.head(self._session, owner, self._passed)
                if following is None or (owner is not None and not self._still_may_start(owner)):
                    del self._heads[owner]
                else:
                    self._heads[owner] = following
                return

    def _still_may_start(self, owner_id: int) -> bool:
        """Whether a user may start a run, after another worker may have started one."""
        if self._shares.rooms.get(owner_id) is None:
            return True
        running = {owner_id: usage.running_of(self._session, owner_id)}
        room = limits.rooms(self._session, [owner_id], running).get(owner_id)
        return room is None or room > 0

    def _can_execute(self, run: RunRow) -> bool:
        return run.spec.needed <= self._capabilities and self._fits(run)

    def _fits(self, run: RunRow) -> bool:
        """Whether it is queued and enough GPUs are free."""
        return run.status == RunStatus.QUEUED and (self._free is None or run.spec.training.devices <= self._free)

    def _refuse(self, run: RunRow) -> None:
        """Have the sweep ring for a run with too few free GPUs, if it is queued, and say in its log what it waits
        for."""
        if queue.to_ring(self._session, run.id):
            line = waiting(self._worker, len(self._gpus), run.spec.training.devices)
            events.add_once(self._session, run.id, "log", line)


def _working(worker: WorkerRow | None, gpus: Sequence[str]) -> list[str]:
    broken = {gpu.uuid for gpu in (worker.devices if worker else ()) if gpu.problem}
    return [uuid for uuid in gpus if uuid not in broken]
