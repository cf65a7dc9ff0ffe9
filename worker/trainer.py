"""The trainer process: one attempt at one run. `python -m worker.trainer`, which then waits for its job.

    stdin    the job first (`worker.handover.Handover`, JSON on one line); then `alive` renews the lease and `stop` asks
             to stop after the present step; its end means that the supervisor is gone
    stdout   reports (`app.domain.jobs.Report`), one JSON object a line; nothing else ever gets there
    stderr   what libraries print, and tracebacks; from the job on in the file that the job names
    exit     0 after a result or a failure was reported, 75 when it stopped as asked, 76 when it lost its supervisor

It imports the ML libraries before it has a job, so it may be started long before (`worker.spare`). Until then it has no
lease, no model, no CUDA context, and no file of any run.

A trainer must never outlive its supervisor: a second attempt may be running by then. So it ends at once when stdin
ends, when no `alive` has come for as long as its lease lasts, and, on Linux, by a signal from the kernel when its
parent dies. SIGTERM is the same as `stop`.
"""

import ctypes
import importlib
import json
import os
import queue
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from pydantic import BaseModel, ValidationError

from app.domain.jobs import (
    EXIT_ABANDONED,
    EXIT_STOPPED,
    CheckpointReport,
    EvaluationReport,
    FailureReport,
    LogReport,
    PhaseReport,
    ResultReport,
    StepsReport,
    TrainJob,
)
from app.domain.metrics import Evaluation, StepMetrics
from app.domain.runs import Failure, FailureCode, Phase
from worker.handover import Handover

if TYPE_CHECKING:
    from worker.engine.attempt import Attempt

ENGINE = ("worker.engine.attempt", "worker.engine.progress", "worker.engine.failures")
"""Imported by name, once the supervisor is heard: it takes seconds, and whatever is printed must not be a report."""
FIRST_USED_LATER = ("pyarrow.dataset",)
"""What the libraries import at their first use, in the first second of an attempt. The code of one architecture is left:
which one it is the job says."""
MODEST_NICENESS = 10
"""A tenth of the ordinary share of a busy core; what is idle is there for anyone."""

_PR_SET_PDEATHSIG = 1


class Channel:
    """The real stdout, kept for reports. File descriptor 1 is pointed at stderr, so a library's print does no harm."""

    def __init__(self) -> None:
        sys.stdout.flush()
        self._descriptor = os.dup(1)
        os.dup2(2, 1)

    def send(self, message: BaseModel) -> None:
        """Write one line. Raises `ValueError` rather than write NaN, which is not JSON."""
        line = json.dumps(message.model_dump(mode="json"), allow_nan=False, ensure_ascii=False)
        left = f"{line}\n".encode()
        while left:
            left = left[os.write(self._descriptor, left) :]


class Reports:
    """The engine's `ProgressSink`: reports to the supervisor, and its wish to stop."""

    def __init__(self, channel: Channel, stop: threading.Event, stopped: type[Exception]) -> None:
        self._channel = channel
        self._stop = stop
        self._stopped = stopped

    def phase(self, phase: Phase, total_steps: int | None = None) -> None:
        """A phase begins."""
        self._channel.send(PhaseReport(phase=phase, total_steps=total_steps))

    def steps(self, steps: Sequence[StepMetrics]) -> None:
        """Optimizer steps; the engine batches them."""
        if steps:
            self._channel.send(StepsReport(steps=list(steps)))

    def evaluation(self, evaluation: Evaluation, items: Sequence[str] = (), scores: Sequence[float] = ()) -> None:
        """A finished evaluation."""
        self._channel.send(EvaluationReport(evaluation=evaluation, items=list(items), scores=list(scores)))

    def log(self, message: str) -> None:
        """A line for the run's log."""
        self._channel.send(LogReport(message=message))

    def checkpoint(self, step: int, folder: Path) -> None:
        """A checkpoint lies in a folder."""
        self._channel.send(CheckpointReport(step=step, folder=str(folder)))

    def raise_if_stopped(self) -> None:
        """Raise the engine's `Stopped` once a stop was asked for."""
        if self._stop.is_set():
            raise self._stopped


class Supervisor:
    """What the supervisor says on stdin. A thread of its own hears it, since imports and steps take their time."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self._handed: queue.SimpleQueue[Handover] = queue.SimpleQueue()
        self._has_job = False
        signal.signal(signal.SIGTERM, self._on_sigterm)
        threading.Thread(target=self._listen, daemon=True, name="supervisor").start()

    def job(self) -> Handover:
        """Wait for the job."""
        return self._handed.get()

    def _on_sigterm(self, number: int, frame: FrameType | None) -> None:
        if not self._has_job:
            os._exit(EXIT_STOPPED)
        self.stop.set()

    def _listen(self) -> None:
        """Until the process ends; by `os._exit`, because nobody would hear more."""
        try:
            self._follow()
        except Exception:
            traceback.print_exc()
            os._exit(1)

    def _follow(self) -> None:
        lease_seconds: float | None = None
        renewed = time.monotonic()
        pending = b""
        while True:
            left = None if lease_seconds is None else max(0.0, renewed + lease_seconds - time.monotonic())
            readable, _, _ = select.select([0], [], [], left)
            data = os.read(0, 4096) if readable else b""
            if not data:  # the lease has run out, or stdin has ended
                os._exit(EXIT_ABANDONED)
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                if lease_seconds is None:
                    lease_seconds, renewed = self._take(line), time.monotonic()
                elif line == b"alive":
                    renewed = time.monotonic()
                elif line == b"stop":
                    self.stop.set()

    def _take(self, line: bytes) -> float:
        """The job has come; returns its lease. What a thread of imports prints meanwhile belongs to the job already."""
        handover = Handover.model_validate_json(line)
        errors = os.open(handover.stderr, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        os.dup2(errors, 2)
        os.dup2(errors, 1)  # see Channel
        os.close(errors)
        os.chdir(handover.directory)
        self._has_job = True
        self._handed.put(handover)
        return handover.lease_seconds


def die_with_parent() -> None:
    """Ask the kernel for SIGKILL when the thread that started this process ends. Elsewhere than on Linux stdin's end
    must do."""
    if not sys.platform.startswith("linux"):
        return
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died in between, and the signal will not come
        os._exit(EXIT_ABANDONED)


def import_libraries(*, modestly: bool) -> None:
    """Import what a run needs. `modestly`: with nobody waiting for it, and perhaps a run beside it whose steps are
    timed, let others go first. Where priorities are not a thread's own, as only on Linux, all is as usual."""
    if modestly and sys.platform.startswith("linux"):
        os.nice(MODEST_NICENESS)
    for name in (*ENGINE, *FIRST_USED_LATER):
        importlib.import_module(name)


def main() -> int:
    """Import the libraries, wait for a job, and run it; returns the exit status."""
    die_with_parent()
    ahead = not select.select([0], [], [], 0)[0]
    channel, supervisor = Channel(), Supervisor()
    with ThreadPoolExecutor(1) as pool:  # a thread's priority is its own: the run will have the ordinary one
        pool.submit(import_libraries, modestly=ahead).result()
    handover = supervisor.job()
    try:
        job = TrainJob.model_validate_json(handover.job.read_bytes())
    except (OSError, ValidationError) as error:
        traceback.print_exc()
        failure = Failure(code=FailureCode.INTERNAL, message=f"The job file is wrong: {error}")
        channel.send(FailureReport(failure=failure))
        return 0
    return execute(job, channel, supervisor.stop)


def execute(job: TrainJob, channel: Channel, stop: threading.Event) -> int:
    """Run the attempt, and report how it ended."""
    engine, progress, failures = map(importlib.import_module, ENGINE)
    attempt: Attempt | None = None
    try:
        attempt = engine.Attempt(job, Reports(channel, stop, progress.Stopped))
        channel.send(ResultReport(result=attempt.run()))
    except progress.Stopped:
        return EXIT_STOPPED
    except BrokenPipeError:
        return EXIT_ABANDONED
    except Exception as error:
        traceback.print_exc()
        peak = attempt.instruments.memory.peak() if attempt else None
        channel.send(FailureReport(failure=failures.failure(error, peak)))
    return 0


if __name__ == "__main__":
    status = main()
    # Interpreter shutdown with torch loaded takes a noticeable part of a second, and everything is written.
    sys.stderr.flush()
    os._exit(status)
