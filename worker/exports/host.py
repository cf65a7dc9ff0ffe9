"""The worker's export thread, which writes one export at a time, each in a child process (`worker.exports.child`)."""

import sys
from collections.abc import Mapping

from worker.ingest.host import IngestQueue

COMMAND = (sys.executable, "-P", "-m", "worker.exports.child")


class ExportQueue(IngestQueue):
    """A thread of its own: an export takes minutes, and an upload should not wait for it."""

    name = "export"
    environment: Mapping[str, str] = {"CUDA_VISIBLE_DEVICES": ""}
