"""The worker's thread of parity checks, one at a time: a check waits for a server for up to an hour, and neither an
export nor an upload should wait for it. It starts no process."""

from worker.children.interrupt import INTERRUPT
from worker.children.work import WorkQueue


class ParityQueue(WorkQueue):
    """Runs parity checks."""

    name = "parity"

    @property
    def stopped(self) -> bool:
        """The worker shuts down: another one takes over."""
        return self._stopped or INTERRUPT.is_set
