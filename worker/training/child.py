"""The trainer process: one attempt at one run. `python -m worker.training.child` waits for its job.

    stdin    first the job (`worker.training.protocol.Handover`, JSON on one line); then `alive` renews the lease and
             `stop` asks to stop after the current step, `stop 7` asks run 7 of a group to; end of file means that the
             supervisor is gone
    stdout   reports (`app.domain.runs.job.Report`), one JSON object a line, and nothing else
    stderr   library output and tracebacks; once it has a job, in the file that the job names
    exit     0 after reporting a result or a failure, 75 after stopping on request, 76 without a supervisor

It imports the ML libraries (`worker.training.execution`) before it has a job, so it can be started ahead of time
(`worker.training.warm_pool`). Until it has a job it holds no lease, no model, no CUDA context, and no file of any run.

A trainer must never outlive its supervisor, because a second attempt may be running by then. So it exits at once when
stdin ends, when no `alive` arrives within its lease, and, on Linux, by a signal from the kernel when its parent dies.
SIGTERM has the same effect as `stop`.
"""

import os
import queue
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import FrameType, ModuleType

from worker.children.child import BACKGROUND_NICENESS, EXIT_ABANDONED, EXIT_STOPPED, die_with_parent, import_engine
from worker.training.protocol import Channel, Handover


class Supervisor:
    """The supervisor's messages on stdin, read in a separate thread, since imports and steps take time."""

    def __init__(self, on_job: Callable[[], None]) -> None:
        """`on_job` is called when the job is there."""
        self.stop = threading.Event()
        self.stopped: set[int] = set()
        """Runs of the group that are to stop."""
        self._on_job = on_job
        self._handed: queue.SimpleQueue[Handover] = queue.SimpleQueue()
        self._has_job = False
        signal.signal(signal.SIGTERM, self._on_sigterm)
        threading.Thread(target=self._listen, daemon=True, name="supervisor").start()

    def job(self) -> Handover:
        return self._handed.get()

    def _on_sigterm(self, number: int, frame: FrameType | None) -> None:
        if not self._has_job:
            os._exit(EXIT_STOPPED)
        self.stop.set()

    def _listen(self) -> None:
        """Follow stdin until the process ends. An error ends it by `os._exit`, because no thread would read stdin any
        more."""
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
                elif line.startswith(b"stop "):
                    self.stopped.add(int(line.removeprefix(b"stop ")))

    def _take(self, line: bytes) -> float:
        """Accept the job and return its lease in seconds. Output of the import thread goes to the job's stderr from now
        on."""
        handover = Handover.model_validate_json(line)
        errors = os.open(handover.stderr, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        os.dup2(errors, 2)
        os.dup2(errors, 1)  # see Channel
        os.close(errors)
        os.chdir(handover.directory)
        self._has_job = True
        self._on_job()
        self._handed.put(handover)
        return handover.lease_seconds


class Import:
    """The import of everything that a run needs. `modestly`: at low priority, because no run waits for it, while a
    run may be training with its steps timed. Only Linux has a priority per thread; elsewhere it is unchanged."""

    def __init__(self, *, modestly: bool) -> None:
        self._modestly = modestly and sys.platform.startswith("linux")
        self._thread = 0
        self._lock = threading.Lock()

    def __call__(self) -> ModuleType:
        """Import it in this thread."""
        with self._lock:
            if self._modestly:
                os.nice(BACKGROUND_NICENESS)
                self._thread = threading.get_native_id()
        try:
            return import_execution()
        finally:
            with self._lock:
                self._thread = 0

    def hurry(self) -> None:
        """A run waits for it: give its thread the priority of the calling one. The kernel allows that to root, or
        within RLIMIT_NICE; otherwise the priority stays low."""
        with self._lock:
            self._modestly = False
            if self._thread:
                with suppress(PermissionError, ProcessLookupError):
                    os.setpriority(os.PRIO_PROCESS, self._thread, os.getpriority(os.PRIO_PROCESS, 0))


def import_execution() -> ModuleType:
    """Import the libraries, which takes seconds."""
    return import_engine("worker.training.execution")


def main() -> int:
    """Import the libraries, wait for a job and run it; returns the exit status."""
    die_with_parent()
    ahead = not select.select([0], [], [], 0)[0]
    imported = Import(modestly=ahead)
    channel, supervisor = Channel(), Supervisor(imported.hurry)
    # Imported by name and late: it takes seconds, during which the supervisor must already be heard and library output
    # must not be parsed as reports. In a thread with its own low priority: the run keeps the normal one.
    with ThreadPoolExecutor(1) as pool:
        execution = pool.submit(imported).result()
    handover = supervisor.job()
    status: int = execution.execute(handover.job, channel, supervisor.stop, supervisor.stopped, hub=handover.hub)
    return status


if __name__ == "__main__":
    status = main()
    # Interpreter shutdown with torch loaded takes a noticeable part of a second, and all output is flushed.
    sys.stderr.flush()
    os._exit(status)
