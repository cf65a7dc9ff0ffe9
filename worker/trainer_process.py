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

from app.domain.jobs import LogReport, Report, TrainJob
from worker.child_environment import child_environment

COMMAND = (sys.executable, "-m", "worker.trainer")

_reports: TypeAdapter[Report] = TypeAdapter(Report)


class TrainerProcess:
    """One trainer, in its own session, with `folder` for its job file and its standard error."""

    def __init__(self, job: TrainJob, folder: Path, lease_seconds: float, command: Sequence[str] = COMMAND) -> None:
        path = folder / "job.json"
        path.write_text(job.model_dump_json())
        self.stderr = folder / "stderr.txt"
        nowhere = folder / "empty"  # a hub id shall never be taken for a directory that happens to lie here
        nowhere.mkdir()
        with self.stderr.open("wb") as errors:
            self._process = subprocess.Popen(  # noqa: S603
                [*command, str(path), "--lease-seconds", str(lease_seconds)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=child_environment(),
                cwd=nowhere,
                start_new_session=True,
            )
        self._lines: queue.SimpleQueue[Report | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True, name="trainer-reports")
        self._reader.start()
        self.finished_reporting = False

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
        if self._process.poll() is None:  # once it is reaped, its id may be another's
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
        try:
            return "\n".join(self.stderr.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""

    def _say(self, line: bytes) -> None:
        stdin = self._process.stdin
        if stdin is not None:
            try:
                stdin.write(line)
                stdin.flush()
            except OSError:
                pass  # it has ended; its exit status tells how

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
