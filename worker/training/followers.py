"""The other processes of a run on several devices, from the trainer's side: start them, and end with the first that
ends.

The trainer that the supervisor started is rank 0; it starts the other ranks as children (`worker.training.follower`),
which die with it. A thread follows each:

    a follower fails                the trainer reports its failure and ends, unless another follower has died
    a follower is killed            the trainer ends as if it had been killed itself, and the run is queued again
    a follower reports nonsense     the same
    a follower's part is done       nothing

A death fails the collective operations of the other ranks, whose reports may arrive before it is noticed. So a failure
waits until every other follower has ended, at most `GRACE_SECONDS`, and a death in this time wins.

So a death ends the whole group within moments, whatever collective operation the others wait in, and the run resumes
like any other: by lease, retry and checkpoint. torch's elastic agent with zero restarts does the same with one more
process between supervisor and ranks, which would have to pass on reports, stops and the reason of a death.
"""

import os
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from app.domain.models.hub_access import HubAccess
from app.domain.runs.job import FailureReport
from worker.children.child import EXIT_ABANDONED, EXIT_STOPPED
from worker.children.host import Child
from worker.training.host import FOREVER
from worker.training.protocol import Channel, Position

COMMAND = (sys.executable, "-P", "-m", "worker.training.follower")
SEND_SECONDS = 60.0
"""A follower reads its position before it imports anything."""
EXIT_SECONDS = 60.0
"""A follower that has closed its output exits within this time, or is killed."""
GRACE_SECONDS = 8.0
"""Within this time of an error in a collective operation, the output of the follower whose death has caused it ends."""


class Followers:
    """The ranks but the first. Start them from the main thread: the kernel kills a child when the thread that
    started it ends."""

    def __init__(self, job: Path, world: int, channel: Channel, hub: HubAccess | None = None) -> None:
        """Raises ChildError if a process cannot be started."""
        self._channel = channel
        ranks = range(1, world)
        self._changed = threading.Condition()
        self._open = set(ranks)
        """Ranks whose output has not ended, and which have not reported."""
        self._ending: set[int] = set()
        """Ranks whose output has ended without a report, and whose exit status is unknown: dead or done."""
        self._reporting: threading.Thread | None = None
        """Follows the rank that was the first to report a failure, and ends this process."""
        for rank in ranks:
            position = Position(job=job, rank=rank, world=world, hub=hub)
            # In the empty directory of rank 0, which the supervisor removes: this may end any time.
            child = Child(f"rank {rank}", COMMAND, environment=visible(rank), directory=Path.cwd(), own_session=False)
            child.send(position.model_dump_json().encode(), SEND_SECONDS)
            threading.Thread(target=self._follow, args=(rank, child), daemon=True, name=f"rank-{rank}").start()

    def settle(self) -> None:
        """After an error of the trainer, wait for what may have caused it: the death or the earlier failure of a
        follower ends this process."""
        self._wait_for_deaths()
        with self._changed:
            reporting = self._reporting
        if reporting is not None:
            reporting.join()

    def _follow(self, rank: int, child: Child) -> None:
        line = child.line(FOREVER)
        with self._changed:
            self._open.discard(rank)
            if line is None:
                self._ending.add(rank)
            first = line is not None and self._reporting is None
            if first:
                self._reporting = threading.current_thread()
            self._changed.notify_all()
        if line is None:
            if child.exit_status(EXIT_SECONDS) not in (0, EXIT_STOPPED):
                os._exit(EXIT_ABANDONED)
            with self._changed:
                self._ending.discard(rank)
                self._changed.notify_all()
        elif first:
            self._report(line)

    def _report(self, line: bytes) -> None:
        """Report a follower's failure and end this process, unless a death ends it before. A line that is no report,
        such as half of one, ends it as a death does."""
        try:
            report = FailureReport.model_validate_json(line)
        except ValidationError:
            os._exit(EXIT_ABANDONED)
        self._wait_for_deaths()
        with suppress(BrokenPipeError):
            self._channel.send(report)
        os._exit(0)

    def _wait_for_deaths(self) -> None:
        """Wait until every follower has ended or reported, or the grace period is over. A death ends this process."""
        with self._changed:
            self._changed.wait_for(lambda: not self._open, GRACE_SECONDS)
            self._changed.wait_for(lambda: not self._ending)


def meeting_of(job: Path) -> Path:
    """The file by which the processes of a job meet (torch's `FileStore`)."""
    return job.with_name("meeting")


def visible(index: int, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Environment variables that show a follower only its own GPU: the one at its index among those that the trainer
    sees."""
    gpus = environment.get("CUDA_VISIBLE_DEVICES")
    if gpus is None:
        return {"CUDA_VISIBLE_DEVICES": str(index)}
    return {"CUDA_VISIBLE_DEVICES": ",".join(gpus.split(",")[index : index + 1])}
