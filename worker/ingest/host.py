"""The worker's ingest thread, which handles one upload or dataset at a time, each in a child process
(`worker.ingest.child`)."""

import sys
from collections.abc import Mapping

from worker.children.work import WorkQueue


class IngestQueue(WorkQueue):
    name = "ingest"
    command = (sys.executable, "-P", "-m", "worker.ingest.child")
    environment: Mapping[str, str] = {
        "CUDA_VISIBLE_DEVICES": "",
        # Arrow's own allocators keep what is freed; the C library's returns it at once (see `ML_ENVIRONMENT`).
        "ARROW_DEFAULT_MEMORY_POOL": "system",
    }
