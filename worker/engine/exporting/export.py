"""An export from its job to its files."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from app.domain.models.exports import ExportedFile, ExportJob
from app.domain.models.weight_delta import WeightDeltas
from app.domain.runs.result import Evaluation, StepMetrics
from app.domain.runs.status import Phase
from worker.engine.clocks import Stopwatch
from worker.engine.environment import prepare
from worker.engine.exporting.merge import write
from worker.engine.memory.measured import MemoryMeter
from worker.engine.models.hub import fetch_model
from worker.engine.progress import Instruments

Report = Callable[[float], None]
"""Receives the share of the work that is done."""
FETCHED = 0.3
"""Share of the work that the download of a base model is taken for."""
WRITTEN = 0.9


def export(job: ExportJob, report: Report) -> list[ExportedFile]:
    """Fetch the base model if it is missing here, and write the export. Raises as `fetch_model` and `merge.write`."""
    prepare(job.job.threads)
    report(0.0)
    if job.format.merged and not job.whole:
        cpu = torch.device("cpu")
        instruments = Instruments(_Sink(report), Stopwatch(job.job.claimed_at, cpu), MemoryMeter(cpu))
        job = job.model_copy(update={"job": fetch_model(job.job, instruments)})
    report(FETCHED)
    files = write(job)
    report(WRITTEN)
    return files


class _Sink:
    """Passes the progress of a download on. An export is stopped by ending its process."""

    def __init__(self, report: Report) -> None:
        self._report = report

    def phase(self, phase: Phase, total_steps: int | None = None) -> None:
        """Nothing."""

    def download(self, done_bytes: int, total_bytes: int) -> None:
        """The share of the work."""
        self._report(FETCHED * done_bytes / max(total_bytes, 1))

    def steps(self, steps: Sequence[StepMetrics]) -> None:
        """Nothing: no step is taken."""

    def evaluation(self, evaluation: Evaluation, items: Sequence[str] = (), scores: Sequence[float] = ()) -> None:
        """Nothing."""

    def log(self, message: str) -> None:
        """Nothing."""

    def checkpoint(self, step: int, folder: Path) -> None:
        """Nothing."""

    def weight_deltas(self, weight_deltas: WeightDeltas) -> None:
        """Nothing."""

    def raise_if_stopped(self) -> None:
        """Nothing."""
