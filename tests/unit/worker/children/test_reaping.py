"""No child stays a zombie of its worker, however it ends and whoever still asks for it."""

import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from worker.children.host import Child, ChildTimeout
from worker.children.work import WorkCancelled, WorkFailed, WorkQueue
from worker.estimation.host import Estimator
from worker.training.warm_pool import WarmPool

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")

SECONDS = 10.0
WAITS = "import sys; sys.stdin.read()"
ENDS = "pass"
DIES_WITH_THREAD = "from worker.children.child import die_with_parent; die_with_parent(); print(1, flush=True); input()"


def command(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


def zombies() -> list[str]:
    """The names of this process's children that have ended and are not reaped."""
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _parenthesis, rest = file.read_text().rpartition(")")
        except OSError:
            continue
        state, parent = rest.split()[:2]
        if (state, parent) == ("Z", str(os.getpid())):
            found.append(name)
    return found


def idle_exit() -> object:
    return Child("test", command(ENDS))


def killed_from_outside() -> object:
    child = Child("test", command(WAITS))
    os.kill(child.pid, signal.SIGKILL)
    return child


def killed() -> object:
    child = Child("test", command(WAITS))
    child.kill()
    return child


def forgotten() -> object:
    Child("test", command("import time; time.sleep(0.2)"))
    gc.collect()
    return None


def timed_out() -> object:
    with pytest.raises(ChildTimeout):
        Child.ask_once("test", command(WAITS), {}, 0.1, bytes)
    return None


def thread_ended() -> object:
    """The kernel kills a child whose thread ends."""
    children: list[Child] = []

    def start() -> None:
        children.append(child := Child("test", command(DIES_WITH_THREAD), directory=Path.cwd()))
        child.receive(SECONDS)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    return children


def revoked() -> object:
    queue = WorkQueue()
    queue.name, queue.command, queue.environment = "test", command(WAITS), {}
    with pytest.raises(WorkCancelled):
        queue.run({}, lambda _share, _rows: False)
    return queue


def stopped() -> object:
    queue = WorkQueue()
    queue.name, queue.command, queue.environment = "test", command(ENDS), {}
    with pytest.raises(WorkFailed):
        queue.run({}, lambda _share, _rows: True)
    queue.stop()
    return queue


def warm_estimation() -> object:
    """The estimation process ends by itself after an idle time."""
    estimator = Estimator(command(ENDS))
    estimator._child = Child("estimation", command(ENDS))
    return estimator


def spare_trainer() -> object:
    pool = WarmPool(command(ENDS), keep_spare=True)
    pool.warm_up()
    return pool


@pytest.mark.by_day
@pytest.mark.parametrize(
    "ending",
    [
        *(idle_exit, killed_from_outside, killed, forgotten, timed_out),
        *(thread_ended, revoked, stopped, warm_estimation, spare_trainer),
    ],
)
def test_a_child_that_has_ended_is_reaped_without_being_asked_for(ending: Callable[[], object]) -> None:
    kept = ending()
    time.sleep(0.3)  # it ends by itself
    deadline = time.monotonic() + SECONDS
    while (left := zombies()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == []
    del kept


def test_its_exit_status_is_known_afterwards() -> None:
    child = Child("test", command("raise SystemExit(3)"))
    assert child.exit_status(SECONDS) == 3 and not child.alive
    child.close()
    child = killed_from_outside()
    assert isinstance(child, Child) and child.exit_status(SECONDS) == -signal.SIGKILL
    child.close()
