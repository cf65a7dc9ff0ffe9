"""A trainer process seen from outside: start it, read its reports, talk to it, end it."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from pydantic import TypeAdapter, ValidationError

from app.domain.runs.job import LogReport, Report, TrainJob
from worker.children.environment import child_environment
from worker.training.protocol import Handover

COMMAND = (sys.executable, "-P", "-m", "worker.training.child")
"""`-P`: nothing is imported from the directory that it is started in."""

_reports: TypeAdapter[Report] = TypeAdapter(Report)


class TrainerProcess:
    """One trainer, in its own process group: started, then handed one job."""

    def __init__(self, command: Sequence[str] = COMMAND) -> None:
        """Raises OSError if no process can be started."""
        self.environment = child_environment()
        """What it was started with."""
        self._process = subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=self.environment,
            cwd="/",  # until it has a job it keeps no directory from being removed
            # To be ended with its children. No session of its own: between sessions Linux may share the cores evenly,
            # and a trainer that imports modestly would take as much as the one that trains (man 7 sched, autogroup).
            process_group=0,
        )
        self._lines: queue.SimpleQueue[Report | None] = queue.SimpleQueue()
        self.finished_reporting = False
        self._stderr: Path | None = None

    def hand(self, job: TrainJob, folder: Path, lease_seconds: float) -> bool:
        """Give it its job; `folder` takes the job file and its standard error. False if it has ended already."""
        handover = Handover(
            job=folder / "job.json",
            directory=folder / "empty",
            stderr=folder / "stderr.txt",
            lease_seconds=lease_seconds,
        )
        handover.job.write_text(job.model_dump_json())
        handover.directory.mkdir(exist_ok=True)
        self._stderr = handover.stderr
        heard = self._say(f"{handover.model_dump_json()}\n".encode())
        threading.Thread(target=self._read, daemon=True, name="trainer-reports").start()
        return heard

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def reports(self, wait: float) -> list[Report]:
        """What it has reported, after at most `wait` seconds for the first; sets `finished_reporting` at its end."""
        found: list[Report] = []
        try:
            item = self._lines.get(timeout=wait)
            while item is not None:
                found.append(item)
                item = self._lines.get_nowait()
            self.finished_reporting = True
        except queue.Empty:
            pass
        return found

    def renew_lease(self) -> None:
        """Tell it that its supervisor still holds the lease."""
        self._say(b"alive\n")

    def ask_to_stop(self) -> None:
        """Ask it to stop after the present step."""
        self._say(b"stop\n")

    def kill(self) -> None:
        """End it and its children at once; nothing happens if it has ended."""
        if self.alive:  # once it is reaped, its id may be another's
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def exit_status(self, timeout: float) -> int:
        """Its exit status (negative: the signal). It is ended by force if it lingers after its last report."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            return self._process.returncode

    def last_errors(self, lines: int = 30) -> str:
        """The end of its standard error."""
        if self._stderr is None:
            return ""
        try:
            return "\n".join(self._stderr.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""

    def _say(self, line: bytes) -> bool:
        """False if it has ended; its exit status tells how."""
        stdin = self._process.stdin
        if stdin is None:
            return False
        try:
            stdin.write(line)
            stdin.flush()
        except OSError:
            return False
        return True

    def _read(self) -> None:
        stdout: IO[bytes] | None = self._process.stdout
        for line in stdout or ():
            try:
                self._lines.put(_reports.validate_json(line))
            except ValidationError as error:
                message = (
                    f"unreadable report: {json.dumps(line[:200].decode(errors='replace'))} ({error.error_count()})"
                )
                self._lines.put(LogReport(message=message))
        self._lines.put(None)
