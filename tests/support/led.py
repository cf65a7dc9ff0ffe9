"""Leaders of runs on several devices, for tests of what becomes of them when a follower ends.

Importing what leads takes seconds, so all leaders of a test process are forked from one process that has done so.
"""

import os
import sys
import threading
from multiprocessing import get_context
from pathlib import Path

from worker.training import followers
from worker.training.protocol import Channel

SETTLED = 3
"""Exit status of a leader that has settled."""
_processes = get_context("forkserver")
_processes.set_forkserver_preload([__name__])


def led(folder: Path, code: str, world: int, grace: float, settles: bool) -> tuple[int, str]:
    """Exit status and reports of a leader whose followers execute some code, in a folder. It waits for them after an
    error of its own (`settles`), or trains."""
    leader = _processes.Process(target=_lead, args=(folder, code, world, grace, settles))
    leader.start()
    leader.join(300)
    assert leader.exitcode is not None, "it has not ended"
    return leader.exitcode, (folder / "reports").read_text()


def _lead(folder: Path, code: str, world: int, grace: float, settles: bool) -> None:
    os.chdir(folder)
    os.dup2(os.open("reports", os.O_WRONLY | os.O_CREAT), 1)  # the channel of reports
    followers.COMMAND = (sys.executable, "-c", code)
    followers.GRACE_SECONDS = grace
    ranks = followers.Followers(Path("job.json"), world, Channel())
    if settles:
        ranks.settle()
        os._exit(SETTLED)
    threading.Event().wait(300)
