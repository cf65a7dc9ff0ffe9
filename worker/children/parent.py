"""What a process that loads models owes to the one that started it: to die with it, to let others go first,
and to answer where it listens."""

import ctypes
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from worker.training.protocol import EXIT_ABANDONED

MODEST_NICENESS = 10
"""A tenth of the ordinary share of a busy core; what is idle is there for anyone."""

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Ask the kernel for SIGKILL when the thread that started this process ends. Elsewhere than on Linux stdin's end
    must do."""
    if not sys.platform.startswith("linux"):
        return
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died in between, and the signal will not come
        os._exit(EXIT_ABANDONED)


def answers_only() -> TextIO:
    """stdout, for answers alone: what libraries print from now on goes to stderr."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def go_modestly() -> None:
    """Let other processes go first, for the whole of this one, which leads a session of its own: between sessions Linux
    may share the cores evenly whatever their niceness, unless the session is told too (man 7 sched, autogroup)."""
    os.nice(MODEST_NICENESS)
    with suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(MODEST_NICENESS))
