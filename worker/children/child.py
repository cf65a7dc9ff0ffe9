"""The child's side of a child process: die with the parent, lower the CPU priority, limit the memory, and answer on a
channel that a library's `print` cannot reach."""

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn, TextIO

EXIT_STOPPED = 75
"""Exit status of a child that was asked to stop and did (EX_TEMPFAIL)."""
EXIT_ABANDONED = 76
"""Exit status of a child whose parent, or whose lease, is gone."""
BACKGROUND_NICENESS = 10
"""About a tenth of the normal share of a busy core; idle cores are used fully."""

_PR_SET_PDEATHSIG = 1


def confine(max_bytes: int) -> None:
    """Die with the parent, and limit writable memory to `max_bytes`; beyond that, Python raises MemoryError."""
    die_with_parent()
    resource.setrlimit(resource.RLIMIT_DATA, (max_bytes, max_bytes))


def die_with_parent() -> None:
    """Ask the kernel for SIGKILL when the thread that started this process ends. Other systems have only the end of
    stdin."""
    if not sys.platform.startswith("linux"):
        return
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before prctl, so the signal will never come
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


def answer_one_request(answer: Callable[[str], str], max_bytes: int) -> NoReturn:
    """Run a child that answers the line on stdin with one line on stdout, and end the process."""
    confine(max_bytes)
    with answer_channel() as answers:
        answers.write(f"{answer(sys.stdin.readline())}\n")
    sys.stderr.flush()
    os._exit(0)  # the shutdown of the ML libraries takes time, and all output is flushed
