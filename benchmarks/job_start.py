"""The start of a run: seconds from its claim until its trainer is ready to load the model.

    python -m benchmarks.job_start [rounds, 10]

Each round measures a fresh trainer and a warm spare, as an idle worker has it; meanwhile the next spare begins its
imports, as it does in a worker. The job's base model does not exist, so the trainer reports the phase `load` and ends:
everything before is measured. The claim and the copy of the dataset are the same for both and are left out.
"""

import statistics
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from app.domain.methods import FullSpec
from app.domain.runs.job import PhaseReport, TrainJob
from app.domain.runs.spec import RunSpec
from worker.training.host import TrainerProcess
from worker.training.warm_pool import WarmPool

SETTLED_SECONDS = 1.0
"""A spare that has slept for this long has imported everything."""


def main(rounds: int) -> None:
    """Print the times of both and their ratio."""
    fresh, warm = WarmPool(), WarmPool(keep_spare=True)
    seconds: dict[str, list[float]] = {"fresh": [], "spare": []}
    try:
        warm.warm_up()
        for _ in range(rounds):
            settle(warm.spare)
            seconds["fresh"].append(start(fresh))
            seconds["spare"].append(start(warm))
        settle(warm.spare)
        print_memory(warm.spare)
    finally:
        warm.end()
    for name, times in seconds.items():
        middle, low, high = (1000 * value for value in (statistics.median(times), min(times), max(times)))
        print(f"{name}  median {middle:8.1f} ms   from {low:8.1f} to {high:8.1f} ms   of {rounds}")
    ratios = [slow / fast for slow, fast in zip(seconds["fresh"], seconds["spare"], strict=True)]
    print(f"ratio  median {statistics.median(ratios):8.0f}      from {min(ratios):8.0f} to {max(ratios):8.0f}")


def start(trainers: WarmPool) -> float:
    """Seconds until a trainer is ready to load the model of its job."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        claimed = time.time()
        trainer = trainers.start(job(folder, claimed), folder, lease_seconds=60.0)
        try:
            while not trainer.finished_reporting:
                if any(isinstance(report, PhaseReport) for report in trainer.reports(wait=0.1)):
                    return time.time() - claimed
        finally:
            trainer.kill()
        raise RuntimeError(f"the trainer ended before it was ready:\n{trainer.last_errors()}")


def job(folder: Path, claimed_at: float) -> TrainJob:
    """A job that ends where its model should be loaded."""
    return TrainJob(
        run_id=1,
        epoch=1,
        spec=RunSpec(base_model="none", dataset="none", method=FullSpec()),
        model_location=str(folder / "no-model"),
        dataset_file=str(folder / "no-rows.parquet"),
        labels=["no", "yes"],
        output=str(folder),
        claimed_at=claimed_at,
    )


def settle(spare: TrainerProcess | None) -> None:
    """Wait until a spare has imported its libraries."""
    assert spare is not None
    process, used, idle_since = psutil.Process(spare.pid), -1.0, time.monotonic()
    while time.monotonic() - idle_since < SETTLED_SECONDS:
        time.sleep(0.1)
        times = process.cpu_times()
        if times.user + times.system != used or process.status() != psutil.STATUS_SLEEPING:
            used, idle_since = times.user + times.system, time.monotonic()


def print_memory(spare: TrainerProcess | None) -> None:
    """What a spare costs."""
    assert spare is not None
    memory = psutil.Process(spare.pid).memory_full_info()
    print(f"a spare holds {memory.rss / 2**20:.0f} MiB, of which {memory.uss / 2**20:.0f} MiB are its own alone")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
