"""Work that takes minutes, one piece after another in a thread of its own, each in a child process.

It is no Celery task: all estimates would wait behind it. It is one thread and not a pool, since two pieces at once
would take twice the memory. The sweep sends lost work again.
"""

import json
import queue
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import structlog

from app.domain.errors import VeznaError
from app.domain.messages import Message, _
from worker.children.host import Child, ChildError, ChildInterrupted, ChildTimeout
from worker.children.interrupt import INTERRUPT

log = structlog.get_logger()

STALL_SECONDS = 900.0
"""The worker ends a process that sends nothing for this long."""
PROGRESS_SECONDS = 1.0
SEND_SECONDS = 60.0
ReportProgress = Callable[[float, int], bool]
"""Takes the share of the work that is done and the number of rows read; returns False to stop the work."""


class WorkFailed(VeznaError):
    """The work could not be done; the message says why."""


class WorkCancelled(Exception):
    """What the work is for was deleted, cancelled or claimed again, or the worker stops."""


class WorkQueue:
    """Runs work in order, in its own thread."""

    name: str
    """Name of its processes in messages."""
    command: tuple[str, ...]
    environment: Mapping[str, str]

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._child: Child | None = None
        self._stopped = False

    def add(self, work: Callable[[], None]) -> None:
        """Run `work` once everything that was added before is done."""
        self._waiting.put(work)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, daemon=True, name=self.name)
            self._thread.start()

    def run(
        self, request: Mapping[str, object], report: ReportProgress, *, command: tuple[str, ...] | None = None
    ) -> dict[str, Any]:
        """Send one request to a new child process and return its answer. Raises WorkFailed, WorkCancelled."""
        try:
            self._child = child = Child(self.name, command or self.command, environment=self.environment)
            with suppress(ChildError):  # one that has ended may have answered before
                child.send(json.dumps(request).encode(), SEND_SECONDS)
            return _answer(child, report)
        except ChildInterrupted:
            raise WorkCancelled from None
        except (ChildError, WorkFailed) as error:
            if self._stopped:
                raise WorkCancelled from None  # `stop` ended it, not the request
            raise WorkFailed(error.message) from error
        finally:
            if self._child is not None:
                self._child.close()
                self._child = None

    @property
    def stopped(self) -> bool:
        """The worker shuts down: another one takes over."""
        return self._stopped or INTERRUPT.is_set

    def stop(self) -> None:
        """Stop for good; another worker takes over the unfinished work."""
        self._stopped = True
        if (child := self._child) is not None:
            child.kill()

    def _work(self) -> None:
        while True:
            work = self._waiting.get()
            try:
                work()
            except Exception:  # the next work continues; the sweep sends this task again
                log.exception("work failed", queue=self.name)


def _answer(child: Child, report: ReportProgress) -> dict[str, Any]:
    """The last line that the child writes; the lines before it are its progress, which is passed on."""
    share, rows = 0.0, 0
    received_at = reported_at = time.monotonic()
    while True:
        moment = time.monotonic()
        if moment - reported_at >= PROGRESS_SECONDS:
            reported_at = moment
            if not report(share, rows):
                raise WorkCancelled
        if moment - received_at > STALL_SECONDS:
            seconds = f"{STALL_SECONDS:.0f}"
            text = _(
                "The %(name)s process sent nothing for %(seconds)s s, so the worker ended it.",
                name=child.name,
                seconds=seconds,
            )
            raise WorkFailed(text)
        try:
            line = child.receive(PROGRESS_SECONDS)
        except ChildTimeout:
            continue
        received_at = time.monotonic()
        try:
            message: dict[str, Any] = json.loads(line)
        except ValueError as error:
            raise child.unreadable() from error
        if "share" not in message:
            if "error" in message:
                raise WorkFailed(Message(message["error"]))
            return message
        share, rows = message["share"], message["rows"]
