"""An engine for real trainer processes that behaves as the seed of its run says, and mostly trains nothing.

`tests.faults.installation` puts it in the place of `worker.training.execution`, so leases, orders, pipes and exit
statuses are those of a real trainer, which starts in a tenth of the time.
"""

import hashlib
import importlib
import json
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Collection
from pathlib import Path

from app.domain.runs.job import (
    CheckpointReport,
    EvaluationReport,
    LogReport,
    PhaseReport,
    ResultReport,
    StepsReport,
    TrainJob,
)
from app.domain.runs.result import ArtifactFile
from app.domain.runs.status import Phase
from tests.support.fakes import gpus as fake_gpus
from tests.support.rows.results import evaluation, result, step
from worker.children.child import EXIT_STOPPED
from worker.training.protocol import Channel

BEHAVIOURS = ("succeeds", "trains", "dies", "learns", "lacks memory")
"""By seed. `trains` goes on until its run may finish, or, resumed or in a later attempt, for ten steps more. `learns`
is the real engine, and so is `lacks memory`, with `ROOM` bytes for its model and what trains it."""
ROOM = 152 << 20
STEP_SECONDS = 0.05
CHECKPOINT_STEPS = 10
FINISH = "finish"
"""A folder in the installation's home: a run whose id is a file there may finish."""


def execute(
    file: Path, channel: Channel, stop: threading.Event, stopped: Collection[int] = (), *, hub: object = None
) -> int:
    """Behave as the seed says; returns the exit status."""
    job = TrainJob.model_validate_json(file.read_bytes())
    behaviour = BEHAVIOURS[job.spec.training.seed]
    if behaviour in ("learns", "lacks memory"):
        return _learn(file, channel, stop, ROOM if behaviour == "lacks memory" else None)
    gpu = fake_gpus.Context() if job.device == "cuda" else None
    if gpu is not None:
        channel.send(LogReport(message=f"trains on {', '.join(gpu.seen)}"))
    channel.send(PhaseReport(phase=Phase.TRAIN, total_steps=10))
    if behaviour == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    resumed = _resumed_from(job)
    if resumed:
        channel.send(LogReport(message=f"going on from step {resumed}"))
        channel.send(StepsReport(steps=[step(n) for n in range(1, resumed + 1)]))
    last = resumed + 10 if behaviour == "succeeds" or job.epoch > 1 else None
    may_finish = Path(job.cache).parent / FINISH / str(job.run_id)
    number = resumed
    while number != last and not may_finish.exists():
        if stop.is_set():
            _checkpoint(job, channel, number)
            return EXIT_STOPPED
        number += 1
        if gpu is not None:
            gpu.launch()
        channel.send(StepsReport(steps=[step(number)]))
        if behaviour == "trains":
            time.sleep(STEP_SECONDS)
            if number % CHECKPOINT_STEPS == 0:
                _checkpoint(job, channel, number)
    _succeed(job, channel, number, resumed)
    return 0


def _learn(file: Path, channel: Channel, stop: threading.Event, room: int | None) -> int:
    """Execute the job by the real engine, whose memory may grow by `room` bytes; returns the exit status."""
    del sys.modules["worker.training.execution"]  # this module, until now
    execution = importlib.import_module("worker.training.execution")
    if room is not None:
        status = Path("/proc/self/status").read_text().splitlines()
        [used] = [int(line.split()[1]) << 10 for line in status if line.startswith("VmData")]
        resource.setrlimit(resource.RLIMIT_DATA, (used + room, used + room))
    ended: int = execution.execute(file, channel, stop)
    return ended


def _resumed_from(job: TrainJob) -> int:
    """The step of the checkpoint to resume from; 0 without one."""
    return int(json.loads((Path(job.resume) / "state.json").read_text())["step"]) if job.resume else 0


def _checkpoint(job: TrainJob, channel: Channel, number: int) -> None:
    """Leave a checkpoint as the engine does: weights, and a state that has their hash."""
    folder = Path(job.output) / ".checkpoints" / str(number)
    folder.mkdir(parents=True, exist_ok=True)
    weights = b"weights of step %d" % number
    (folder / "weights.safetensors").write_bytes(weights)
    state = {"step": number, "files": {"weights.safetensors": hashlib.sha256(weights).hexdigest()}}
    (folder / "state.json").write_text(json.dumps(state))
    channel.send(CheckpointReport(step=number, folder=str(folder)))


def _succeed(job: TrainJob, channel: Channel, steps: int, resumed: int) -> None:
    """Report an evaluation and a result with an adapter."""
    channel.send(EvaluationReport(evaluation=evaluation(), items=["a", "b"], scores=[1.0, 0.0]))
    target = Path(job.output) / "adapter" / "adapter_model.safetensors"
    target.parent.mkdir()
    target.write_bytes(b"weights")
    file = ArtifactFile(name="adapter/adapter_model.safetensors", kind="adapter", bytes=7, sha256="ab")
    ended = {"steps": steps, "resumed_from": resumed or None, "artifacts": [file]}
    channel.send(ResultReport(result=result().model_copy(update=ended)))
