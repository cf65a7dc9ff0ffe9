"""Who prepares data on a worker: one thread that does one thing after the other, and the process that it has at work.

A reading takes minutes, so it is no Celery task: the sweep and everybody's estimates would wait behind it. It is a
thread and not a pool, since two files at once would take twice the memory. What is lost with the thread is rung again
by the sweep.
"""

import json
import os
import queue
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from tempfile import TemporaryDirectory
from typing import Any

import structlog

from app.domain.errors import VeznaError
from worker.children.environment import child_environment

log = structlog.get_logger()

COMMAND = (sys.executable, "-P", "-m", "worker.ingest.child")
ENVIRONMENT = {
    "CUDA_VISIBLE_DEVICES": "",
    # Arrow's own allocators keep what is freed; the C library's gives it back at once (see `trainer_env`).
    "ARROW_DEFAULT_MEMORY_POOL": "system",
}
STALL_SECONDS = 900.0
"""A process that says nothing for so long is ended."""
TELL_SECONDS = 1.0
"""How often progress is passed on."""
Told = Callable[[float, int], bool]
"""Is told the share of the work that is done, and rows; False: stop."""


class NotPrepared(VeznaError):
    """Nothing came of it; the message says why."""


class GivenUp(Exception):
    """Whoever asked does not want it any more."""


class Preparer:
    """Does what it is given, in order, in a thread of its own."""

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def add(self, work: Callable[[], None]) -> None:
        """Do something once what was added before is done."""
        self._waiting.put(work)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, daemon=True, name="preparer")
            self._thread.start()

    def run(self, request: Mapping[str, object], told: Told, *, command: tuple[str, ...] = COMMAND) -> dict[str, Any]:
        """One request to a process of its own (`worker.ingest.child`), and its answer. Raises NotPrepared with a
        sentence, and GivenUp."""
        nowhere = TemporaryDirectory(prefix="vezna-prepare-", ignore_cleanup_errors=True)
        try:
            self._process = process = subprocess.Popen(  # noqa: S603
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=child_environment() | ENVIRONMENT,
                cwd=nowhere.name,  # a hub id is never taken for a directory that happens to lie there
                start_new_session=True,
            )
        except OSError as error:
            nowhere.cleanup()
            raise NotPrepared(f"The process that reads could not be started: {error.strerror}. Try again.") from error
        try:
            assert process.stdin and process.stdout  # noqa: S101 both are pipes
            with suppress(BrokenPipeError), process.stdin as pipe:
                pipe.write(json.dumps(request).encode() + b"\n")
            return _answer(process, told)
        except NotPrepared:
            if self._stopped:
                raise GivenUp from None  # it was ended here, and is no fault of the file
            raise
        finally:
            self._end()
            nowhere.cleanup()

    def stop(self) -> None:
        """End for good: what was at work is left to whoever is rung for it next."""
        self._stopped = True
        if (process := self._process) is not None:
            _kill(process)

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            _kill(process)
            process.wait()
            if process.stdout:
                process.stdout.close()

    def _work(self) -> None:
        while True:
            work = self._waiting.get()
            try:
                work()
            except Exception:  # what comes next shall be done all the same; the sweep rings again for this
                log.exception("data could not be prepared")


def _kill(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:  # once it is reaped, its id may be another's
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _answer(process: "subprocess.Popen[bytes]", told: Told) -> dict[str, Any]:
    assert process.stdout  # noqa: S101 it is a pipe
    output = process.stdout.fileno()
    pending, share, rows = b"", 0.0, 0
    heard = told_at = time.monotonic()
    while True:
        at = time.monotonic()
        if at - told_at >= TELL_SECONDS:
            told_at = at
            if not told(share, rows):
                raise GivenUp
        if at - heard > STALL_SECONDS:
            raise NotPrepared(f"Nothing was heard of the reading for {STALL_SECONDS:.0f} s, so it was given up.")
        if not select.select([output], [], [], TELL_SECONDS)[0]:
            continue
        data = os.read(output, 1 << 16)
        if not data:
            raise NotPrepared(_how_it_ended(process))
        heard = time.monotonic()
        *lines, pending = (pending + data).split(b"\n")
        for line in lines:
            try:
                said: dict[str, Any] = json.loads(line)
            except ValueError as error:
                raise NotPrepared("The process that reads gave an answer that makes no sense. Try again.") from error
            if "share" not in said:
                if "error" in said:
                    raise NotPrepared(str(said["error"]))
                return said
            share, rows = said["share"], said["rows"]


def _how_it_ended(process: "subprocess.Popen[bytes]") -> str:
    try:
        status = process.wait(5)
    except subprocess.TimeoutExpired:
        return "The process that reads fell silent. Try again."
    how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
    return f"The process that reads {how}; its machine may be short of memory. Try again."
