"""Export studies to the installation's tracker, in a child process
(`worker.features.elsewhere.child`) that is kept while the next export is soon."""

import json
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import structlog

from app.domain.errors import Unavailable
from app.domain.messages import _
from app.features.elsewhere.services import tracker_exports
from app.features.elsewhere.services.tracker_exports import EXPORT_SECONDS, RENEW_SECONDS, Claim
from app.services.runs import ended as ended_runs
from app.store.workers import clock
from worker.children.host import Child, ChildError, ChildInterrupted

if TYPE_CHECKING:
    from worker.nodes.context import Context

COMMAND = (sys.executable, "-P", "-m", "worker.features.elsewhere.child")
LONGEST_PAUSE = 600.0
"""Seconds between live exports for which a process is kept; after a longer one, its memory is worth more."""
MOST_EXPORTS = 200
"""Exports of a process, in case the tracker's client keeps something of each."""


class ExportProcess:
    """Keeps one process. All calls come from one thread, with which the process ends."""

    def __init__(self) -> None:
        self._child: Child | None = None
        self._exports, self._used = 0, 0.0

    @property
    def pid(self) -> int | None:
        """Id of the process, if it waits for a request."""
        return self._child.pid if self._child is not None and self._child.waiting else None

    def ask(
        self,
        request: Mapping[str, object],
        directory: Path,
        seconds: float,
        *,
        meanwhile: Callable[[], object],
        every: float,
    ) -> dict[str, Any]:
        """Send a request and return its answer; `meanwhile` is called at an interval. The process is ended if this
        raises ChildError or what `meanwhile` raises: it may still write."""
        if self.pid is None or self._exports >= MOST_EXPORTS:
            self.end()
        if self._child is None:
            environment = {"CUDA_VISIBLE_DEVICES": ""}
            self._child = Child("tracker", COMMAND, environment=environment, directory=directory)
        child = self._child
        try:
            child.send(json.dumps(request).encode(), seconds)
            answer: dict[str, Any] = json.loads(child.receive(seconds, meanwhile=meanwhile, every=every))
        except ValueError as error:
            self.end()
            raise child.unreadable() from error
        except BaseException:
            self.end()
            raise
        self._exports, self._used = self._exports + 1, time.monotonic()
        return answer

    def end_if_idle(self, live_seconds: float) -> None:
        """End the process unless studies are exported at such an interval and one was not long ago."""
        kept = 2 * live_seconds if live_seconds <= LONGEST_PAUSE else 0.0
        if self._child is not None and time.monotonic() - self._used >= kept:
            self.end()

    def end(self) -> None:
        child, self._child, self._exports = self._child, None, 0
        if child is not None:
            child.close()


log = structlog.get_logger()


def export_due(context: "Context", stopping: Event | None = None) -> int:
    """Export the studies that are due now, each once, until the node stops; the number of attempts. What becomes due
    meanwhile waits for the next round."""
    write, seconds, attempts = context.database.write, context.settings.tracker_live_seconds, 0
    stopping = stopping or Event()
    ended_runs.process(context.database, context.settings)  # an end that is noted later has a study exported twice
    write(tracker_exports.go_live if seconds else tracker_exports.leave_live)
    begin = partial(tracker_exports.begin, live=seconds > 0, until=write(clock.now))
    while not stopping.is_set() and (claim := write(begin)) is not None:
        attempts += 1
        about = {"study": claim.study_id, "external": claim.external, "attempt": claim.number}
        try:
            url = _exported(context, claim, stopping)
        except ChildInterrupted:
            write(partial(tracker_exports.give_back, claim=claim))
            break
        except Exception as error:
            why = tracker_exports.reason(error, claim.study_id)
            log.warning("not exported", **about, why=str(why))
            write(partial(tracker_exports.failed, claim=claim, why=why, live_seconds=seconds))
        else:
            log.info("exported", **about, url=url)
            write(partial(tracker_exports.succeeded, claim=claim, url=url, live_seconds=seconds))
    context.one(ExportProcess).end_if_idle(0.0 if stopping.is_set() else seconds)
    return attempts


def _exported(context: "Context", claim: Claim, stopping: Event) -> str:
    """Where the study is in the tracker. Raises ChildError, and Unavailable with what the child said."""
    settings = context.settings
    request = {
        "study": claim.study_id,
        "external": claim.external,
        "live": claim.live,
        "to": settings.tracker,
        "server": settings.url,
        "token": settings.tracker_token.get_secret_value(),
    }
    settings.home.mkdir(parents=True, exist_ok=True)
    answer = context.one(ExportProcess).ask(
        request,
        settings.home,
        EXPORT_SECONDS,
        meanwhile=partial(_renew, context, claim, stopping),
        every=RENEW_SECONDS,
    )
    if "error" in answer:
        raise Unavailable(answer["error"])
    return str(answer["url"])


def _renew(context: "Context", claim: Claim, stopping: Event) -> None:
    if stopping.is_set():  # a node that trains too lets its trainers end, and sets no INTERRUPT
        raise ChildInterrupted(_("The control node stops."))
    if not context.database.write(partial(tracker_exports.renew, claim=claim)):
        raise ChildError(_("The study is private now, was deleted, or another attempt exports it."))
