"""A run of ours: the trainer as a worker starts it, in a process and an environment of its own."""

import time
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from app.domain.data.dataset import Row
from app.domain.runs.job import FailureReport, ResultReport, StepsReport, TrainJob
from app.domain.runs.result import RunResult, StepMetrics
from app.domain.runs.spec import RunSpec
from app.domain.tasks import Format
from worker.training.host import TrainerProcess


def trained(
    spec: RunSpec, model: Path, labels: list[str], rows: Sequence[Row], directory: Path, form: Format = "labelled"
) -> tuple[RunResult, list[StepMetrics]]:
    """Train in an empty directory. Raises RuntimeError if the run fails."""
    file, output = directory / "rows.parquet", directory / "output"
    output.mkdir()
    pq.write_table(pa.table({name: [getattr(row, name) for row in rows] for name in rows[0]._fields}), file)
    job = TrainJob(
        run_id=1,
        epoch=1,
        spec=spec,
        model_location=str(model),
        dataset_file=str(file),
        dataset_format=form,
        labels=labels,
        output=str(output),
        claimed_at=time.time(),
    )
    trainer, steps = TrainerProcess(), list[StepMetrics]()
    trainer.hand_over(job, directory, lease_seconds=600.0)
    try:
        while not trainer.finished_reporting:
            trainer.renew_lease()
            for report in trainer.reports(wait=10.0):
                match report:
                    case StepsReport():
                        steps += report.steps
                    case FailureReport():
                        raise RuntimeError(report.failure.message)
                    case ResultReport(result=result):
                        return result, steps
        raise RuntimeError(f"the trainer ended without a result:\n{trainer.last_errors()}")
    finally:
        trainer.kill()
