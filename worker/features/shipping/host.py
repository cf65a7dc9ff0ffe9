"""The worker's export thread, which writes one export at a time, each in a child process
(`worker.features.shipping.child`)."""

import sys
from collections.abc import Mapping

from worker.children.work import WorkQueue


class ExportQueue(WorkQueue):
    """A thread of its own: an export takes minutes, and an upload should not wait for it."""

    name = "export"
    command = (sys.executable, "-P", "-m", "worker.features.shipping.child")
    environment: Mapping[str, str] = {"CUDA_VISIBLE_DEVICES": ""}
