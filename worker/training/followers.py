"""The other processes of a run on several devices, from rank 0's side: start them, and end with the first that ends.

Rank 0 is the trainer that the supervisor started; it starts ranks 1, 2, … as children (`worker.training.follower`),
which die with it. A thread follows each:

    a follower fails                rank 0 reports its failure and ends
    a follower is killed            rank 0 ends as if it had been killed itself, and the supervisor queues the run again
    a follower's part is done       nothing

So a death ends the whole group within moments, whatever collective operation the others wait in, and what resumes the
run is what resumes every run: lease, retry and checkpoint. torch's elastic agent with zero restarts does the same with
a process more between supervisor and ranks, which would have to pass on reports, stops and the reason of a death.
"""

import os
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from app.domain.runs.job import FailureReport
from worker.children.child import EXIT_ABANDONED, EXIT_STOPPED
from worker.children.host import Child, ChildError
from worker.engine.team import Team
from worker.training.protocol import Channel, Position

COMMAND = (sys.executable, "-P", "-m", "worker.training.follower")
SEND_SECONDS = 60.0
"""A follower reads its position before it imports anything."""
FOREVER = 10**9
DEATH_SECONDS = 2.0
"""Within this time of an error in a collective operation, the death that has caused it is noticed."""


class Followers:
    """Ranks 1 to `world` − 1 of a job. Start them from the main thread: the kernel kills a child when the thread that
    started it ends."""

    def __init__(self, job: Path, world: int, channel: Channel) -> None:
        """Raises ChildError if a process cannot be started."""
        self._channel = channel
        meeting = job.with_name("meeting")
        self.team = Team(0, world, meeting)
        self._threads = []
        for rank in range(1, world):
            position = Position(job=job, rank=rank, world=world, meeting=meeting)
            child = Child(f"rank {rank}", COMMAND, environment=visible(rank), own_session=False)
            child.send(position.model_dump_json().encode(), SEND_SECONDS)
            thread = threading.Thread(target=self._follow, args=(child,), daemon=True, name=f"rank-{rank}")
            thread.start()
            self._threads.append(thread)

    def settle(self) -> None:
        """After an error, wait for the death of a follower that may have caused it: it ends this process."""
        for thread in self._threads:
            thread.join(DEATH_SECONDS)

    def _follow(self, child: Child) -> None:
        with suppress(ChildError):  # it has ended
            report = FailureReport.model_validate_json(child.receive(FOREVER))
            with suppress(BrokenPipeError):
                self._channel.send(report)
            os._exit(0)
        if child.exit_status(SEND_SECONDS) not in (0, EXIT_STOPPED):
            os._exit(EXIT_ABANDONED)


def visible(rank: int, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What has a rank see its own GPU alone: the one at its place of those that rank 0 sees."""
    gpus = environment.get("CUDA_VISIBLE_DEVICES")
    if gpus is None:
        return {"CUDA_VISIBLE_DEVICES": str(rank)}
    return {"CUDA_VISIBLE_DEVICES": ",".join(gpus.split(",")[rank : rank + 1])}
