"""The inference process from its parent's side: one process is kept warm, and answers one request at a time.

If it hangs, dies or writes nonsense, the reader gets a sentence, and the next request a new process.
"""

import json
import shutil
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import ExitStack
from pathlib import Path
from threading import Event as Flag
from threading import Thread
from typing import Any

from app.domain.errors import NotFound, Unavailable, VeznaError
from app.domain.messages import _
from app.features.serving.rules import InferenceRequest, ModelJob, WorkRequest, failed
from app.features.serving.services.inference import Loadable, of_subject, reserved_bytes
from app.services.ownership.vault import Vault
from app.services.users import hub_tokens
from app.settings import Settings
from app.store.database.session import Database
from app.store.files.files import Files
from worker.children.host import Child, ChildError, ChildInterrupted, ChildTimeout
from worker.features.serving.inference import pictures
from worker.machine import naming
from worker.samples.host import located
from worker.training import workdir

COMMAND = (sys.executable, "-P", "-m", "worker.features.serving.inference.child")
"""`-P`: do not import from the current directory."""
ENVIRONMENT = {"CUDA_VISIBLE_DEVICES": ""}
"""A run must not lose memory of its GPU to it."""
POLL_SECONDS = 0.25
"""How often it is checked whether the reader has left."""
HEARTBEAT_SECONDS = 5.0
"""Between two events while files are copied."""
SEND_SECONDS = 10.0
CANCEL_SECONDS = 10.0
"""Time in which a process stops answering a reader who has left; then it is killed."""
STALL_SECONDS = 300.0
"""The process is killed if it sends nothing for this long: it sends heartbeats between tokens, batches and files of a
download, and loading a large model takes less."""

Event = dict[str, Any]


class Inference:
    """Keeps one inference process, and local names for the files of the runs that it has loaded."""

    def __init__(self, settings: Settings, database: Database, files: Files, command: Sequence[str] = COMMAND) -> None:
        self._settings, self._database, self._files = settings, database, files
        self._command = (*command, str(settings.infer_idle_seconds))
        self._child: Child | None = None
        self._folders = ExitStack()
        self._folder: Path | None = None
        self._loaded: set[str] = set()
        """Keys of the models that the process has loaded."""
        workdir.remove_abandoned(settings.home)

    def answer(self, request: InferenceRequest, wanted: Callable[[], bool]) -> Iterator[Event]:
        """The events of a request, the last one `end` or `failed`; it stops early if it is no longer `wanted`. Close
        the iterator if it is not read to its end."""
        try:
            yield from self._answered(request, wanted)
        finally:
            self._remove_copies()

    def _answered(self, request: InferenceRequest, wanted: Callable[[], bool]) -> Iterator[Event]:
        for again in (True, False):
            try:
                work = yield from self._prepared(request, wanted)
            except (VeznaError, OSError) as error:
                known = error if isinstance(error, VeznaError) else _unreadable(error)
                yield failed(known)
                return
            if work is None:
                return
            line = work.model_dump_json().encode()
            started = ended = False
            try:
                child = self._started()
                child.send(line, SEND_SECONDS)
                for event in self._events(child, wanted):
                    started, ended = True, event["type"] in ("end", "failed")
                    yield event
                return
            except ChildError as error:
                self.end()
                ended = True
                if again and not started and not isinstance(error, ChildTimeout | ChildInterrupted):
                    continue  # it was idle, and ended just when the request came
                yield failed(Unavailable(error.message))
                return
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
        self._folders.close()
        self._folder, self._loaded = None, set()

    def _events(self, child: Child, wanted: Callable[[], bool]) -> Iterator[Event]:
        heard = time.monotonic()
        while wanted():
            try:
                line = child.receive(POLL_SECONDS)
            except ChildTimeout:
                if time.monotonic() - heard > STALL_SECONDS:
                    text = _(
                        "The inference process sent nothing for %(seconds)s s, so the worker ended it. Try again.",
                        seconds=f"{STALL_SECONDS:.0f}",
                    )
                    raise ChildTimeout(text) from None
                continue
            heard = time.monotonic()
            try:
                event: Event = json.loads(line)
                last = event["type"] in ("end", "failed")
            except (ValueError, TypeError, KeyError) as error:
                raise child.unreadable() from error
            if event["type"] == "loaded":
                self._loaded = set(event["models"])
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

    def _remove_copies(self) -> None:
        """Remove the files of models that are not loaded any more, or were not."""
        kept = {_folder_name(key) for key in self._loaded}
        for folder in self._folder.iterdir() if self._folder is not None else ():
            if folder.name not in kept:
                shutil.rmtree(folder, ignore_errors=True)

    def _started(self) -> Child:
        if self._child is None:
            self._child = Child("inference", self._command, environment=ENVIRONMENT)
        return self._child

    def _prepared(
        self, request: InferenceRequest, wanted: Callable[[], bool]
    ) -> Generator[Event, None, WorkRequest | None]:
        """What the process needs, while files are copied in another thread; None if it is no longer `wanted`. Yields
        heartbeats. Raises as `_work`."""
        done, left = Future[WorkRequest](), Flag()

        def run() -> None:
            try:
                done.set_result(self._work(request, left))
            except BaseException as error:  # raised in the thread that waits for it
                done.set_exception(error)

        thread, sent = Thread(target=run, daemon=True, name="inference-files"), time.monotonic()
        thread.start()
        try:
            while wanted():
                if wait([done], POLL_SECONDS).done:
                    return done.result()
                if time.monotonic() - sent >= HEARTBEAT_SECONDS:
                    sent = time.monotonic()
                    yield {"type": "working"}
            return None
        finally:
            left.set()
            thread.join()

    def _work(self, request: InferenceRequest, left: Flag) -> WorkRequest:
        """What the process needs; no further file is copied once the reader has `left`. Raises NotFound, Invalid,
        Unavailable."""
        with self._database.reading() as session:
            subjects = [of_subject(session, subject) for subject in request.subjects]
            reserved = reserved_bytes(session, self._settings.worker_name or naming.host())
        if self._child is not None and not self._child.waiting:
            self.end()  # with the files of an earlier process
        request = pictures.decoded(request)
        jobs = [self._job(subject, left) for subject in subjects]
        return WorkRequest(request=request, jobs=jobs, reserved_bytes=reserved)

    def _job(self, subject: Loadable, left: Flag) -> ModelJob:
        job = subject.job.job
        location = located(job.model_location, self._settings.home)
        local = job.model_copy(update={"model_location": location, "threads": self._settings.threads})
        weights = ""
        if subject.files:
            weights = str(self._local(subject, left))
        with self._database.reading() as session:
            hub = hub_tokens.access_of(session, Vault(self._settings), subject.hub_user)
        return subject.job.model_copy(update={"job": local, "weights": weights, "hub": hub})

    def _local(self, subject: Loadable, left: Flag) -> Path:
        """A directory with the files that a run saved: links into a store of this machine, or copies."""
        if self._folder is None:
            self._folder = self._folders.enter_context(workdir.workdir(self._settings.home))
        folder = self._folder / _folder_name(subject.job.key)
        for stored, name in subject.files.items():
            target = folder / name
            if target.exists() or left.is_set():
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
                text = _(
                    "Run %(run)s cannot be loaded: %(why)s Train it again.",
                    run=subject.job.job.run_id,
                    why=error.message,
                )
                raise Unavailable(text) from error
        return folder


def _folder_name(key: str) -> str:
    return key.replace(" ", "-").replace("/", "-")


def _unreadable(error: OSError) -> Unavailable:
    return Unavailable(_("The model's files cannot be read (%(why)s). Try again.", why=error.strerror or str(error)))
