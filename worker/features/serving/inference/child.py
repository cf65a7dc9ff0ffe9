"""The inference process: `python -P -m worker.features.serving.inference.child IDLE_SECONDS`, kept warm by
`worker.features.serving.inference.host`.

    stdin    a line for each request, `app.features.serving.rules.WorkRequest`; {"cancel": true} while one is answered
    stdout   events, one a line (`app.features.serving.rules`); the last of a request is `end` or `failed`
    stderr   library output, and tracebacks

It sees no CUDA device. Models that no request used for the idle time are unloaded; without a request for that long the
process ends. It ends with its parent, and the kernel ends it first when memory runs out.
"""

import importlib
import json
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from app.domain.errors import Invalid, Unavailable, VeznaError
from app.domain.failures import FailureCode, RunFailed
from app.domain.messages import Message, _
from app.features.serving.rules import WorkRequest, failed
from app.imports import import_large
from worker.children.child import answer_channel, die_with_parent, import_engine

OUT_OF_MEMORY_SCORE = 1000
"""The kernel ends this process first (man 5 proc, oom_score_adj)."""


class Reader:
    """Reads stdin in a thread of its own, so that a request can be cancelled while it waits or is answered."""

    def __init__(self) -> None:
        self.requests: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.cancelled = threading.Event()
        threading.Thread(target=self._read, daemon=True, name="stdin").start()

    def _read(self) -> None:
        for line in sys.stdin:
            if line.startswith('{"cancel"'):
                self.cancelled.set()
            else:
                self.cancelled.clear()  # the parent sends a request once the one before has ended
                self.requests.put(line)
        self.cancelled.set()
        self.requests.put(None)


def error_of(error: Exception) -> VeznaError:
    """An error that can be sent to the reader."""
    if isinstance(error, RunFailed):
        kind = Invalid if error.code is FailureCode.BAD_CONFIGURATION else Unavailable
        return kind(error.message)
    if isinstance(error, VeznaError):
        return error
    traceback.print_exc()
    failures = importlib.import_module("worker.engine.loop.failures")  # models are loaded, and must not be frozen
    failure = failures.failure(error)
    if failure.code is FailureCode.OUT_OF_MEMORY:
        return Unavailable(_("The inference process ran out of memory. Choose fewer or smaller models."))
    return Unavailable(_("The model could not answer (%(why)s).", why=Message(failure.message)))


def serve(reader: Reader, answers: TextIO, idle_seconds: float) -> None:
    """Answer requests until stdin ends, or none has come for `idle_seconds`."""
    models: Any = None

    def emit(event: Mapping[str, Any]) -> None:
        answers.write(f"{json.dumps(event, allow_nan=False)}\n")
        answers.flush()

    while True:
        try:
            line = reader.requests.get(timeout=idle_seconds)
        except queue.Empty:
            return
        if line is None:
            return
        try:
            work = WorkRequest.model_validate_json(line)
            answer = import_engine("worker.features.serving.inference.answer")  # it takes seconds
            if models is None:
                import_large("worker.engine.device.environment").prepare(work.jobs[0].job.threads)
                models = import_large("worker.features.serving.inference.models").Models()
            models.unload(time.monotonic() - idle_seconds)
            try:
                answer.Answering(models, work, emit, reader.cancelled.is_set).run()
            except answer.Cancelled:
                emit({"type": "end", "cancelled": True})
                continue
            emit({"type": "end"})
        except Exception as error:
            emit(failed(error_of(error)))


def main() -> int:
    die_with_parent()
    with suppress(OSError):  # not Linux, or not allowed
        Path("/proc/self/oom_score_adj").write_text(str(OUT_OF_MEMORY_SCORE))
    with answer_channel() as answers:
        serve(Reader(), answers, float(sys.argv[1]))
    return 0


if __name__ == "__main__":
    status = main()
    sys.stderr.flush()
    os._exit(status)  # torch's shutdown takes time, and all output is flushed
