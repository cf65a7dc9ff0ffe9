"""A trainer process from the supervisor's side: start it, hand over one job, receive its reports, stop it."""

import json
import queue
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from app.domain.messages import _
from app.domain.models.hub_access import HubAccess
from app.domain.runs.job import GroupJob, LogReport, Report, TrainJob
from worker.children.host import Child, ChildError
from worker.training.protocol import END, PIECE, Handover

COMMAND = (sys.executable, "-P", "-m", "worker.training.child")
"""`-P`: do not import from the current directory."""
SEND_SECONDS = 10.0
EXIT_SECONDS = 5.0
FOREVER = 365 * 86400.0
MOST_REPORT_BYTES = 1 << 30
"""Seconds: a trainer may be silent; the supervisor's own deadlines apply. `select` on macOS refuses more than 10⁸."""

_reports: TypeAdapter[Report] = TypeAdapter(Report)


class TrainerProcess:
    """One trainer. It is started before it has a job, and executes exactly one."""

    def __init__(self, command: Sequence[str] = COMMAND, environment: Mapping[str, str] | None = None) -> None:
        """`environment` is added to that of every child. Raises ChildError if no process can be started."""
        # In "/": until it has a job it must not block the removal of a directory. It shares the worker's session, so
        # that a spare's low priority counts against the trainer that is running.
        self._child = Child("training", command, environment=environment, directory=Path("/"), own_session=False)
        self._reports: queue.SimpleQueue[Report | None] = queue.SimpleQueue()
        self.finished_reporting = False
        self._stderr: Path | None = None

    @property
    def environment(self) -> dict[str, str]:
        """The environment that it was started with."""
        return self._child.environment

    @property
    def alive(self) -> bool:
        return self._child.alive

    @property
    def pid(self) -> int:
        return self._child.pid

    def hand_over(
        self, job: TrainJob | GroupJob, folder: Path, lease_seconds: float, hub: HubAccess | None = None
    ) -> bool:
        """Hand over the job; `folder` receives the job file and stderr, and `hub` goes by stdin. False if the
        process has already ended."""
        handover = Handover(
            job=folder / "job.json",
            directory=folder / "empty",
            stderr=folder / "stderr.txt",
            lease_seconds=lease_seconds,
            hub=hub,
        )
        handover.job.write_text(job.model_dump_json())
        handover.directory.mkdir(exist_ok=True)
        self._stderr = handover.stderr
        received = self._say(handover.model_dump_json().encode())
        threading.Thread(target=self._read, daemon=True, name="trainer-reports").start()
        return received

    def reports(self, wait: float) -> list[Report]:
        """The reports so far, after waiting at most `wait` seconds for the first; sets `finished_reporting` at the
        end."""
        reports: list[Report] = []
        try:
            report = self._reports.get(timeout=wait)
            while report is not None:
                reports.append(report)
                report = self._reports.get_nowait()
            self.finished_reporting = True
        except queue.Empty:
            pass
        return reports

    def renew_lease(self) -> None:
        """Tell it that the supervisor still holds the lease."""
        self._say(b"alive")

    def ask_to_stop(self, run_id: int | None = None) -> None:
        """Ask it to stop after the current step, or one run of its group."""
        self._say(b"stop" if run_id is None else b"stop %d" % run_id)

    def kill(self) -> None:
        """Kill it and its children; does nothing if it has ended."""
        self._child.kill()
        self._child.exit_status(EXIT_SECONDS)  # its pipes stay open: the thread reads them to the end

    def exit_status(self, timeout: float) -> int:
        """Its exit status (negative: the signal). It is killed if it has not exited within `timeout` seconds."""
        return self._child.exit_status(timeout)

    def last_errors(self, lines: int = 30) -> str:
        """The last lines of its standard error."""
        if self._stderr is None:
            return ""
        try:
            return "\n".join(self._stderr.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""

    def _say(self, line: bytes) -> bool:
        """False if the process has ended; its exit status says how."""
        try:
            self._child.send(line, SEND_SECONDS)
        except ChildError:
            return False
        return True

    def _read(self) -> None:
        """Read in a thread, so that a trainer never blocks while the supervisor waits for the database."""
        try:
            while True:
                self._reports.put(_report(self._whole_line()))
        except ChildError:  # it has ended
            self._reports.put(None)

    def _whole_line(self) -> bytes:
        """The next report, put together from its pieces."""
        parts, size = [], 0
        while (line := self._child.receive(FOREVER)).startswith(PIECE):
            parts.append(line[1:])
            size += len(line)
            if size > MOST_REPORT_BYTES:
                raise ChildError(_("The %(name)s process sent an answer that is too long. Try again.", name="trainer"))
        return b"".join(parts) if line == END else line


def _report(line: bytes) -> Report:
    try:
        return _reports.validate_json(line)
    except ValidationError as error:
        start = json.dumps(line[:200].decode(errors="replace"))
        return LogReport(message=f"unreadable report: {start} ({error.error_count()})")
