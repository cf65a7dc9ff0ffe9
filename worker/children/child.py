"""The child's side of a child process: die with the parent, lower the CPU priority, limit the memory, and answer on a
channel that a library's `print` cannot reach."""

import ctypes
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import NoReturn, TextIO

from app.imports import import_large

EXIT_STOPPED = 75
"""Exit status of a child that was asked to stop and did (EX_TEMPFAIL)."""
EXIT_ABANDONED = 76
"""Exit status of a child whose parent, or whose lease, is gone."""
BACKGROUND_NICENESS = 10
"""About a tenth of the normal share of a busy core; idle cores are used fully."""

PARENT = "VEZNA_PARENT_PID"
"""The process id of a child's parent, in its environment."""
_PR_SET_PDEATHSIG = 1


def confine(max_bytes: int) -> None:
    """Die with the parent, and limit writable memory to `max_bytes`; beyond that, Python raises MemoryError."""
    die_with_parent()
    resource.setrlimit(resource.RLIMIT_DATA, (max_bytes, max_bytes))


def die_with_parent(parent: int | None = None) -> None:
    """End this process when its parent does, even by SIGKILL: on Linux the kernel sends SIGKILL when the thread that
    started it ends; elsewhere a thread looks for another parent every second.

    `parent` is the expected parent (default: `PARENT` of the environment), so that one that died before this call is
    noticed.
    """
    parent = parent or int(os.environ.get(PARENT) or os.getppid())
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        threading.Thread(target=_watch, args=(parent,), daemon=True, name="parent").start()
    if os.getppid() != parent:  # it died before prctl, so the signal will never come
        os._exit(EXIT_ABANDONED)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(EXIT_ABANDONED)


def yield_processor() -> None:
    """Lower the priority of this process, which leads its own session. Linux may share the cores evenly between
    sessions regardless of niceness, so the session's autogroup is lowered too (man 7 sched)."""
    os.nice(BACKGROUND_NICENESS)
    with suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(BACKGROUND_NICENESS))


def answer_channel() -> TextIO:
    """Return stdout, reserved for answers; redirect what libraries print to stderr."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def answer_requests(answer: Callable[[str], str], max_bytes: int, max_seconds: int) -> NoReturn:
    """Run a child that answers each line on stdin with one line on stdout, and end the process after the last. The
    kernel ends it when a request takes longer than `max_seconds`, whatever has become of its parent."""
    confine(max_bytes)
    with answer_channel() as answers:
        for line in sys.stdin:
            signal.alarm(max_seconds)
            answers.write(f"{answer(line)}\n")
            answers.flush()
            sys.stderr.flush()
            signal.alarm(0)
    os._exit(0)  # as after one request


def answer_one_request(answer: Callable[[str], str], max_bytes: int, max_seconds: int) -> NoReturn:
    """Run a child that answers the line on stdin with one line on stdout, and end the process. After `max_seconds` the
    kernel ends it, whatever has become of its parent."""
    confine(max_bytes)
    signal.alarm(max_seconds)
    with answer_channel() as answers:
        answers.write(f"{answer(sys.stdin.readline())}\n")
    sys.stderr.flush()
    os._exit(0)  # the shutdown of the ML libraries takes time, and all output is flushed


def import_engine(name: str) -> ModuleType:
    """Import a module that brings PEFT, after bitsandbytes without torch's compiler."""
    import_large("worker.engine.models.quantized.kernels")
    return import_large(name)
