"""The inference process from its parent's side: one process is kept warm, and answers one request at a time.

If it hangs, dies or writes nonsense, the reader gets a sentence, and the next request a new process.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from app.domain.errors import NotFound, Unavailable, VeznaError
from app.domain.inference import InferenceRequest, ModelJob, WorkRequest, failed
from app.domain.messages import _
from app.services.inference import Loadable, of_subject, reserved_bytes
from app.settings import Settings
from app.store.files import Files
from app.store.session import Database
from worker import naming
from worker.children.host import Child, ChildError, ChildTimeout
from worker.samples.host import located

COMMAND = (sys.executable, "-P", "-m", "worker.inference.child")
"""`-P`: do not import from the current directory."""
ENVIRONMENT = {"CUDA_VISIBLE_DEVICES": ""}
"""A run must not lose memory of its GPU to it."""
POLL_SECONDS = 0.25
"""How often it is checked whether the reader has left."""
SEND_SECONDS = 10.0
CANCEL_SECONDS = 10.0
"""Time in which a process stops answering a reader who has left; then it is killed."""
STALL_SECONDS = 300.0
"""The process is killed if it sends nothing for this long; loading a large model takes less."""

Event = dict[str, Any]


class Inference:
    """Keeps one inference process, and local names for the files of the runs that it has loaded."""

    def __init__(self, settings: Settings, database: Database, files: Files, command: Sequence[str] = COMMAND) -> None:
        self._settings, self._database, self._files = settings, database, files
        self._command = (*command, str(settings.infer_idle_seconds))
        self._child: Child | None = None
        self._folder: TemporaryDirectory[str] | None = None

    def answer(self, request: InferenceRequest, wanted: Callable[[], bool]) -> Iterator[Event]:
        """The events of a request, the last one `end` or `failed`; it stops early if it is no longer `wanted`. Close
        the iterator if it is not read to its end."""
        try:
            work = self._work(request)
        except (VeznaError, OSError) as error:
            known = error if isinstance(error, VeznaError) else _unreadable(error)
            yield failed(known)
            return
        ended = False
        try:
            child = self._started()
            child.send(work.model_dump_json().encode(), SEND_SECONDS)
            for event in self._events(child, wanted):
                ended = event["type"] in ("end", "failed")
                yield event
        except ChildError as error:
            self.end()
            ended = True
            yield failed(Unavailable(error.message))
        finally:
            if not ended:
                self._stop_answering()

    def tidy(self) -> None:
        """Remove what a process has left that has ended, by itself or killed."""
        if self._child is not None and not self._child.alive:
            self.end()

    def end(self) -> None:
        """End the process, and remove its files."""
        child, self._child = self._child, None
        if child is not None:
            child.close()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _events(self, child: Child, wanted: Callable[[], bool]) -> Iterator[Event]:
        heard = time.monotonic()
        while wanted():
            try:
                line = child.receive(POLL_SECONDS)
            except ChildTimeout:
                if time.monotonic() - heard > STALL_SECONDS:
                    raise
                continue
            heard = time.monotonic()
            try:
                event: Event = json.loads(line)
                last = event["type"] in ("end", "failed")
            except (ValueError, TypeError, KeyError) as error:
                raise child.unreadable() from error
            yield event
            if last:
                return

    def _stop_answering(self) -> None:
        """Have the process drop the request, and kill it if that takes long."""
        child = self._child
        if child is None:
            return
        try:
            child.send(b'{"cancel": true}', SEND_SECONDS)
            deadline = time.monotonic() + CANCEL_SECONDS
            while json.loads(child.receive(max(0.1, deadline - time.monotonic()))).get("type") not in ("end", "failed"):
                pass
        except (ChildError, ValueError):
            self.end()

    def _started(self) -> Child:
        if self._child is None:
            self._child = Child("inference", self._command, environment=ENVIRONMENT)
        return self._child

    def _work(self, request: InferenceRequest) -> WorkRequest:
        """What the process needs. Raises NotFound, Invalid, Unavailable."""
        with self._database.reading() as session:
            subjects = [of_subject(session, subject) for subject in request.subjects]
            reserved = reserved_bytes(session, self._settings.worker_name or naming.host())
        if self._child is not None and not self._child.waiting:
            self.end()  # with the files of an earlier process
        jobs = [self._job(subject) for subject in subjects]
        return WorkRequest(request=request, jobs=jobs, reserved_bytes=reserved)

    def _job(self, subject: Loadable) -> ModelJob:
        job = subject.job.job
        location = located(job.model_location, self._settings.home)
        local = job.model_copy(update={"model_location": location, "threads": self._settings.threads})
        weights = ""
        if subject.files:
            weights = str(self._local(subject))
        return subject.job.model_copy(update={"job": local, "weights": weights})

    def _local(self, subject: Loadable) -> Path:
        """A directory with the files that a run saved: links into a store of this machine, or copies."""
        if self._folder is None:
            self._folder = TemporaryDirectory(prefix="vezna-infer-", ignore_cleanup_errors=True)
        folder = Path(self._folder.name) / f"run-{subject.job.job.run_id}-{subject.job.job.epoch}"
        for stored, name in subject.files.items():
            target = folder / name
            if target.exists():
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                if (there := self._files.local(stored)) is not None:
                    target.unlink(missing_ok=True)
                    target.symlink_to(there.resolve())
                else:
                    part = target.with_name(f"{target.name}.part")
                    self._files.get(stored, part)
                    part.replace(target)
            except NotFound as error:
                raise Unavailable(
                    _(
                        "Run %(run)s cannot be loaded: %(why)s Train it again.",
                        run=subject.job.job.run_id,
                        why=error.message,
                    )
                ) from error
        return folder


def _unreadable(error: OSError) -> Unavailable:
    return Unavailable(_("The model's files cannot be read (%(why)s). Try again.", why=error.strerror or str(error)))
