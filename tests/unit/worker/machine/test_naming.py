"""Two workers of one host have two names; a worker that starts again has its own again."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from worker.machine import naming

HOST = socket.gethostname()
RESERVE = (
    "import os, sys; from worker.machine import naming; "
    "print(naming.reserve(sys.argv[1]), flush=True); sys.stdin.read()"
)


def start(folder: Path, database: str = "sqlite://") -> tuple[subprocess.Popen[str], str]:
    """A process that reserves a name, and the name."""
    environment = os.environ | {"TMPDIR": str(folder)}
    command = [sys.executable, "-c", RESERVE, database]
    process = subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def test_workers_of_one_host_and_database_have_different_names(tmp_path: Path) -> None:
    started = [start(tmp_path), start(tmp_path), start(tmp_path, "postgresql://other")]
    try:
        assert [name for _process, name in started] == [HOST, f"{HOST}-2", HOST]
        first = started[0][0]
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        started.append(start(tmp_path))
        assert started[-1][1] == HOST
    finally:
        for process, _name in started:
            process.kill()
            process.communicate()


def test_without_a_directory_for_locks_the_name_is_the_hosts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "missing"))
    assert naming.reserve("sqlite://") == naming.name() == HOST
