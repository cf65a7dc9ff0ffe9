"""Everything on one machine: one process has a home, and what it starts does not outlive it."""

import errno
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from app.domain.errors import Unavailable
from app.embedded import Child, Stack, check, locked
from app.settings import ROOT, Settings
from tests.running_stack import free_port, until


def test_a_home_has_one_process_and_the_other_is_told_which(tmp_path: Path) -> None:
    with locked(tmp_path / "home"), pytest.raises(Unavailable, match=rf"already runs in .*process {os.getpid()}"):  # noqa: SIM117
        with locked(tmp_path / "home"):
            pass
    with locked(tmp_path / "home"):
        pass


@pytest.mark.parametrize("home", ["/proc/vezna", "lock-is-a-directory"])
def test_a_home_that_cannot_be_written_is_one_sentence(tmp_path: Path, home: str) -> None:
    (tmp_path / "lock-is-a-directory" / "lock").mkdir(parents=True)
    with pytest.raises(Unavailable, match=r"cannot write to its home directory .*VEZNA_HOME"), locked(tmp_path / home):
        pass


@pytest.mark.parametrize(
    ("number", "advice"),
    [(errno.EADDRINUSE, "--port 8001"), (errno.EACCES, "--port 8000"), (errno.EADDRNOTAVAIL, "VEZNA_HOST")],
)
def test_a_port_that_cannot_be_had_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int, advice: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(Unavailable, match=advice):
        check(Settings(home=tmp_path))


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(Unavailable, match=f"Port {port} on 127.0.0.1 is in use"):
            check(Settings(home=tmp_path, port=port))


def test_a_process_that_ends_is_started_again(tmp_path: Path) -> None:
    sleeping = [sys.executable, "-c", "import time; time.sleep(600)"]
    first = Child("worker", sleeping, dict(os.environ), tmp_path / "log")
    stack = Stack("", [first], Settings(home=tmp_path))
    stack.keep_alive()
    assert stack.children == [first]
    first.process.kill()
    first.process.wait()
    stack.keep_alive()
    (second,) = stack.children
    assert second is not first and second.process.poll() is None
    second.process.kill()
    second.process.wait()


def test_waiting_ends_with_a_process_that_ends_again_and_again(tmp_path: Path) -> None:
    child = Child("worker", [sys.executable, "-c", "raise SystemExit(3)"], dict(os.environ), tmp_path / "log")
    stack = Stack("", [child], Settings(home=tmp_path))

    def silent() -> Iterator[int]:
        yield 1
        time.sleep(60)

    came = stack.while_alive(silent())
    assert next(came) == 1
    with pytest.raises(Unavailable, match="worker ended with status 3"):
        next(came)


def test_what_comes_and_what_goes_wrong_is_passed_on(tmp_path: Path) -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise Unavailable("gone")

    stack = Stack("", [], Settings(home=tmp_path))
    assert list(stack.while_alive(iter([1, 2]))) == [1, 2]
    with pytest.raises(Unavailable, match="gone"):
        list(stack.while_alive(broken()))


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGHUP, signal.SIGKILL, signal.SIGINT])
def test_nothing_outlives_vezna_up(tmp_path: Path, ending: signal.Signals) -> None:
    port = free_port()
    command = [sys.executable, "-m", "app.cli", "up", "--port", str(port)]
    killed = ending == signal.SIGKILL  # the hardest: with a spare trainer too, which takes long to start
    environment = os.environ | {"VEZNA_HOME": str(tmp_path), "PYTHONUNBUFFERED": "1", "VEZNA_WARM_SPARE": str(killed)}
    with (tmp_path / "told").open("wb") as told:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=told, stderr=told, start_new_session=True)
    until(lambda: "Stop with Ctrl+C" in (tmp_path / "told").read_text(), 60)
    family = psutil.Process(process.pid).children(recursive=True)
    assert {"valkey-server"} <= {p.name() for p in family} and len(family) >= 6

    if killed:
        second = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert second.returncode == 1
        assert f"Vezna already runs in {tmp_path} (process {process.pid})" in " ".join(second.stderr.split())

    os.killpg(process.pid, ending)  # as a terminal does
    process.wait(40)
    _, left = psutil.wait_procs(family, 40)
    assert left == []
