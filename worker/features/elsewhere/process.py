"""The child process that exports studies (`worker.features.elsewhere.child`), kept while the next export follows soon:
a new one imports for three seconds of processor time before it writes a few steps."""

import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from worker.children.host import Child

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
