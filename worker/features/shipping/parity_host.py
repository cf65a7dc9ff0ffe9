"""The worker's thread of parity checks, one at a time: a check waits for a server for up to an hour, and neither an
export nor an upload should wait for it. It starts no process."""

from worker.children.work import WorkQueue


class ParityQueue(WorkQueue):
    name = "parity"
