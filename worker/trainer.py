"""The trainer process: one attempt at one run. `python -m worker.trainer JOB.json [--lease-seconds S]`.

    stdout   reports (`app.domain.jobs.Report`), one JSON object a line; nothing else ever gets there
    stderr   what libraries print, and tracebacks
    stdin    `alive` renews the lease, `stop` asks to stop after the present step; its end means that the
             supervisor is gone
    exit     0 after a result or a failure was reported, 75 when it stopped as asked, 76 when it lost its supervisor

A trainer must never outlive its supervisor: a second attempt may be running by then. So it ends at once when stdin
ends, when no `alive` has come for S seconds, and, on Linux, by a signal from the kernel when its parent dies.
SIGTERM is the same as `stop`.
"""

import argparse
import ctypes
import importlib
import json
import os
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from pydantic import BaseModel, ValidationError

from app.domain.jobs import (
    EXIT_ABANDONED,
    EXIT_STOPPED,
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

if TYPE_CHECKING:
    from worker.engine.attempt import Attempt

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

    def raise_if_stopped(self) -> None:
        """Raise the engine's `Stopped` once a stop was asked for."""
        if self._stop.is_set():
            raise self._stopped


def watch(stop: threading.Event, lease_seconds: float | None) -> None:
    """Follow stdin until the process ends. Runs in a thread of its own; `os._exit` because nobody would hear more."""
    renewed = time.monotonic()
    pending = b""
    while True:
        left = None if lease_seconds is None else renewed + lease_seconds - time.monotonic()
        readable, _, _ = select.select([0], [], [], None if left is None else max(0.0, left))
        if not readable:
            os._exit(EXIT_ABANDONED)
        data = os.read(0, 4096)
        if not data:
            os._exit(EXIT_ABANDONED)
        *lines, pending = (pending + data).split(b"\n")
        if b"alive" in lines:
            renewed = time.monotonic()
        if b"stop" in lines:
            stop.set()


def die_with_parent() -> None:
    """Ask the kernel for SIGKILL when the thread that started this process ends. Elsewhere than on Linux stdin's end
    must do."""
    if not sys.platform.startswith("linux"):
        return
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died in between, and the signal will not come
        os._exit(EXIT_ABANDONED)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one job; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m worker.trainer", description="Execute one run from a job file.")
    parser.add_argument("job", type=Path, help="a JSON file: app.domain.jobs.TrainJob")
    parser.add_argument("--lease-seconds", type=float, help="end if no `alive` line comes for so long")
    options = parser.parse_args(arguments)
    stop = threading.Event()

    def on_sigterm(number: int, frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, on_sigterm)
    die_with_parent()
    channel = Channel()
    threading.Thread(target=watch, args=(stop, options.lease_seconds), daemon=True, name="supervisor-watch").start()
    try:
        job = TrainJob.model_validate_json(options.job.read_bytes())
    except (OSError, ValidationError) as error:
        traceback.print_exc()
        failure = Failure(code=FailureCode.INTERNAL, message=f"The job file is wrong: {error}")
        channel.send(FailureReport(failure=failure))
        return 0
    return execute(job, channel, stop)


def execute(job: TrainJob, channel: Channel, stop: threading.Event) -> int:
    """Import the engine, run the attempt, and report how it ended."""
    # Imported here and by name: torch and transformers take seconds, during which a stop must be heard already, and
    # whatever they print must not reach the reports.
    engine = importlib.import_module("worker.engine.attempt")
    progress = importlib.import_module("worker.engine.progress")
    failures = importlib.import_module("worker.engine.failures")
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
