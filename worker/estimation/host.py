"""Predictions out of a process of their own (`worker.estimation.child`): asked, timed, and replaced when it misbehaves.

One process is kept warm. Whatever it does (hang, die, answer nonsense), the caller gets a sentence, and the next
request a fresh process.
"""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from app.domain.data.previews import Preview, PreviewRequest
from app.domain.errors import NotFound, VeznaError
from app.domain.resources.estimate import MapRequest, MemoryMap, ResourceEstimate
from app.services.models import located
from app.services.resources.estimates import ESTIMATE_SECONDS, MAP_SECONDS, START_SECONDS, Request
from app.store.files import Files
from worker.children.environment import child_environment

log = structlog.get_logger()

COMMAND = (sys.executable, "-P", "-m", "worker.estimation.child")
"""`-P`: nothing is imported from the directory that it is started in."""
MOST_ANSWER_BYTES = 32 << 20
CHUNK = 1 << 16


class NoAnswer(VeznaError):
    """There is no estimate; the message says why."""


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")

    prediction: ResourceEstimate | None = None
    preview: Preview | None = None
    map: MemoryMap | None = None
    error: str | None = None


class Estimator:
    """Keeps one process. Use it from a thread that lives as long as the worker: the kernel ends a process together with
    the thread that started it."""

    def __init__(
        self,
        command: Sequence[str] = COMMAND,
        *,
        prediction_seconds: float = ESTIMATE_SECONDS,
        map_seconds: float = MAP_SECONDS,
        start_seconds: float = START_SECONDS,
    ) -> None:
        self._command = tuple(command)
        self._prediction_seconds, self._map_seconds = prediction_seconds, map_seconds
        self._start_seconds = start_seconds
        self._process: _Process | None = None

    @property
    def pid(self) -> int | None:
        """Of the process that is kept, if it is alive."""
        return self._process.pid if self._process and self._process.alive else None

    def work_out(self, request: Request, files: Files) -> ResourceEstimate | Preview | MemoryMap:
        """A prediction, a preview or a map. Raises NoAnswer, and Unavailable where the packaged sample is not
        installed."""
        here = request.model_copy(update={"location": located(request.location)})
        process, seconds = self._running()
        found: ResourceEstimate | Preview | MemoryMap | None
        try:
            if isinstance(here, MapRequest):
                found = process.ask({"map": here.model_dump(mode="json")}, seconds + self._map_seconds).map
            else:
                dataset = process.dataset(files, here.dataset_file) if here.dataset_file else None
                what = "preview" if isinstance(here, PreviewRequest) else "predict"
                asked = {what: here.model_dump(mode="json"), "dataset": str(dataset) if dataset else None}
                answer = process.ask(asked, seconds + self._prediction_seconds)
                found = answer.preview if what == "preview" else answer.prediction
        except _Misbehaved as error:
            self.end()
            raise NoAnswer(error.message) from error
        if found is None:
            self.end()
            raise NoAnswer("The process that predicts answered another question. Ask again.")
        return found

    def end(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            process.end()

    def _running(self) -> tuple["_Process", float]:
        """The process, and what it may take on top because it is a fresh one."""
        if self._process is not None and self._process.alive:
            return self._process, 0.0
        self.end()
        try:
            self._process = _Process(self._command)
        except OSError as error:
            raise NoAnswer(f"The process that predicts could not be started: {error.strerror}. Ask again.") from error
        return self._process, self._start_seconds


class _Misbehaved(VeznaError):
    """The process is of no use any more."""


class _Process:
    """The process, from its start to its end, with a directory that is empty but for a dataset's rows."""

    def __init__(self, command: Sequence[str]) -> None:
        self._folder = TemporaryDirectory(prefix="vezna-estimate-", ignore_cleanup_errors=True)
        (Path(self._folder.name) / "empty").mkdir()
        self._popen = subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # What a card would need is worked out without one: no memory of it is taken beside a run.
            env=child_environment() | {"CUDA_VISIBLE_DEVICES": ""},
            cwd=Path(self._folder.name) / "empty",  # a hub id is never taken for a directory that happens to lie there
            start_new_session=True,
        )
        assert self._popen.stdin and self._popen.stdout  # noqa: S101 both are pipes
        self._in, self._out = self._popen.stdin.fileno(), self._popen.stdout.fileno()
        os.set_blocking(self._in, False)
        self._dataset: tuple[str, Path] | None = None

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._popen.pid

    @property
    def alive(self) -> bool:
        """It waits for a request: it has not ended, and says nothing unasked."""
        return self._popen.poll() is None and not select.select([self._out], [], [], 0)[0]

    def dataset(self, files: Files, name: str) -> Path:
        """A dataset's rows as a local file; the last one is kept. Raises NoAnswer."""
        if self._dataset is None or self._dataset[0] != name:
            if self._dataset is not None:
                self._dataset[1].unlink(missing_ok=True)
                self._dataset = None
            local = Path(self._folder.name) / Path(name).name
            try:
                files.get(name, local)
            except (NotFound, OSError) as error:
                raise NoAnswer(f"The dataset's rows cannot be read: {error}") from error
            self._dataset = (name, local)
        return self._dataset[1]

    def ask(self, request: Mapping[str, object], seconds: float) -> _Answer:
        """One request, one answer. Raises NoAnswer with the sentence that it answers, _Misbehaved for anything else."""
        deadline = time.monotonic() + seconds
        late = f"Working this out took longer than {seconds:.0f} s, so it was given up."
        self._send(json.dumps(request).encode() + b"\n", deadline, late)
        line = self._line(deadline, late)
        try:
            found = _Answer.model_validate_json(line)
        except ValidationError as error:
            log.error("unreadable estimate", answer=line[:200].decode(errors="replace"), errors=error.error_count())
            raise _Misbehaved("The process that predicts gave an answer that makes no sense. Ask again.") from error
        if found.error is not None:
            raise NoAnswer(found.error)
        return found

    def end(self) -> None:
        """End it at once."""
        if self._popen.poll() is None:  # once it is reaped, its id may be another's
            with suppress(ProcessLookupError):
                os.killpg(self._popen.pid, signal.SIGKILL)
            self._popen.wait()
        for pipe in (self._popen.stdin, self._popen.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        self._folder.cleanup()

    def _send(self, data: bytes, deadline: float, late: str) -> None:
        while data:
            if not select.select([], [self._in], [], max(0.0, deadline - time.monotonic()))[1]:
                raise _Misbehaved(late)
            try:
                data = data[os.write(self._in, data) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise _Misbehaved(self._how_it_ended()) from error

    def _line(self, deadline: float, late: str) -> bytes:
        found = b""
        while not found.endswith(b"\n"):
            if not select.select([self._out], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise _Misbehaved(late)
            data = os.read(self._out, CHUNK)
            if not data:
                raise _Misbehaved(self._how_it_ended())
            found += data
            if len(found) > MOST_ANSWER_BYTES:
                raise _Misbehaved("The process that predicts does not come to the end of its answer. Ask again.")
        return found

    def _how_it_ended(self) -> str:
        try:
            status = self._popen.wait(5)
        except subprocess.TimeoutExpired:
            return "The process that predicts fell silent. Ask again."
        how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        return f"The process that predicts {how} over this; its machine may be short of memory. Ask again."
