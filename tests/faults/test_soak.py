"""A short soak: runs of a real engine while processes are killed. `make soak` is the long one."""

from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from tests.support.servers import soak as soaking
from tests.support.servers.soak import soak


class Listed:
    """A process as psutil lists it, which may have ended meanwhile."""

    def __init__(self, cwd: str | None, *children: "Listed", has_cmdline: bool = True) -> None:
        self._cwd, self._children, self._has_cmdline = cwd, children, has_cmdline

    def children(self, recursive: bool) -> list["Listed"]:
        return list(self._children)

    def cmdline(self) -> list[str]:
        if not self._has_cmdline:
            raise psutil.NoSuchProcess(1)
        return ["python", "-m", "worker.training.child"]

    def cwd(self) -> str:
        if self._cwd is None:
            raise psutil.NoSuchProcess(1)
        return self._cwd


def test_a_process_that_ends_while_it_is_looked_for_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    spare, busy = Listed("/"), Listed("run-1")
    node = Listed("/", Listed("/", has_cmdline=False), spare, Listed(None), busy)
    monkeypatch.setattr(psutil, "Process", lambda _: node)
    stack = SimpleNamespace(children=[SimpleNamespace(name="worker", process=SimpleNamespace(pid=1))])
    assert soaking._children(stack, "trainer") == [busy, spare]  # type: ignore[arg-type, comparison-overlap]


@pytest.mark.nightly
@pytest.mark.timeout(1200)
def test_eight_runs_survive_four_kills(tmp_path: Path) -> None:
    report = soak(tmp_path, count=8, kills=4, seed=1, minutes=15)  # idle, about two
    assert report.passed, report.table()
    assert report.kills
