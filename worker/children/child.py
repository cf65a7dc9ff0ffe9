"""What a child process does for the one that started it: dies with it, yields the processor, stays within its memory,
and answers on a channel that no library's print can reach."""

import ctypes
import os
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from worker.training.protocol import EXIT_ABANDONED

BACKGROUND_NICENESS = 10
"""A tenth of the ordinary share of a busy core; idle cores are free to use."""

_PR_SET_PDEATHSIG = 1


def confine(max_bytes: int) -> None:
    """Die with the parent, and hold at most `max_bytes` of writable memory: beyond that, Python raises MemoryError."""
    die_with_parent()
    resource.setrlimit(resource.RLIMIT_DATA, (max_bytes, max_bytes))


def die_with_parent() -> None:
    """Ask the kernel for SIGKILL when the thread that started this process ends. Outside Linux the end of stdin must
    do."""
    if not sys.platform.startswith("linux"):
        return
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died in between, and the signal will not come
        os._exit(EXIT_ABANDONED)


def yield_processor() -> None:
    """Lower the priority of this process, which leads a session of its own: between sessions Linux may share the cores
    evenly whatever their niceness, unless the session's autogroup is lowered too (man 7 sched)."""
    os.nice(BACKGROUND_NICENESS)
    with suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(BACKGROUND_NICENESS))


def answer_channel() -> TextIO:
    """stdout, for answers alone: what libraries print from now on goes to stderr."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers
