"""Carry out an export job: write the files and score them."""

import torch

from app.domain.comparison.fairness.export_gate import ExportScores
from app.domain.models.exports import ExportedFile, ExportJob
from worker.engine.device.environment import prepare
from worker.engine.exporting.check import check
from worker.engine.exporting.merge import write
from worker.engine.exporting.progress import Report, part
from worker.engine.loop.clocks import Stopwatch
from worker.engine.loop.progress import Instruments, Silence
from worker.engine.memory.measured import MemoryMeter
from worker.engine.models.hub.access import acting_for
from worker.engine.models.hub.hub import fetch_model

FETCHED = 0.2
"""Share of the work that the download of a base model is taken for."""
WRITTEN = 0.4


class _Download(Silence):
    """Reports the share of the base model's download that is done."""

    def __init__(self, report: Report) -> None:
        self._report = report

    def download(self, done_bytes: int, total_bytes: int) -> None:
        """The share that has arrived."""
        self._report(done_bytes / max(total_bytes, 1))


def export(job: ExportJob, report: Report) -> tuple[list[ExportedFile], ExportScores]:
    """Fetch the base model if it is missing here, write the export, then load it from its files and score it. Raises as
    `fetch_model`, `merge.write` and `check`."""
    prepare(job.job.threads)
    report(0.0)
    if not job.whole:
        cpu = torch.device("cpu")
        sink = _Download(part(report, 0.0, FETCHED))
        instruments = Instruments(sink, Stopwatch(job.job.claimed_at, cpu), MemoryMeter(cpu))
        with acting_for(job.hub):
            job = job.model_copy(update={"job": fetch_model(job.job, instruments)})
    files = write(job, part(report, FETCHED, WRITTEN))
    return files, check(job, part(report, WRITTEN, 1.0))
