"""Everything on one machine: one process has a home, and what it starts does not outlive it."""

import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import httpx2
import psutil
import pytest

from app.broker.embedded import Child, Stack, check
from app.domain.errors import Unavailable
from app.settings import ROOT, Settings
from app.settings.home import locked
from app.store.database.session import Database
from app.store.files.files import Files
from app.store.runs import queries as runs
from app.store.tables import EstimateRow, RunRow
from tests.conftest import register_tiny
from tests.faults.installation import spec
from tests.support.servers.running_stack import free_port, until


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


@pytest.mark.nightly
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


@pytest.mark.nightly
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


SILENT = """\
import os, sys, time
command = " ".join(sys.orig_argv)
if "worker.training.child" in command:
    import tests.faults.engine
    sys.modules["worker.training.execution"] = tests.faults.engine
elif "worker.estimation.child" in command:
    time.sleep(600)
"""
"""Python executes it in every process at its start: runs train nothing, and estimates last."""


class Up:
    """`vezna up` as a process, as a terminal starts it."""

    def __init__(self, folder: Path, migrated_file: Path) -> None:
        self.home = folder / "home"
        self.home.mkdir()
        shutil.copy(migrated_file, self.home / "vezna.sqlite")
        self.database = Database(f"sqlite:///{self.home / 'vezna.sqlite'}")
        register_tiny(self.database, Files(str(self.home / "files")))
        (folder / "sitecustomize.py").write_text(SILENT)
        self.port = free_port()
        self._said = folder / "said"
        names = {
            "VEZNA_HOME": str(self.home),
            "VEZNA_WARM_SPARE": "false",
            "VEZNA_DEVICE": "cpu",
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": f"{folder}:{ROOT}",
        }
        with self._said.open("wb") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "app.cli", "up", "--port", str(self.port)],
                cwd=ROOT,
                env=os.environ | names,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
        until(lambda: "Stop with Ctrl+C" in self.said(), 120)
        self.api = httpx2.Client(base_url=f"http://127.0.0.1:{self.port}/api/v1", timeout=60)

    def said(self) -> str:
        """What it has printed."""
        return self._said.read_text()

    def family(self) -> list[psutil.Process]:
        """Every process below it."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def node(self, command: str) -> psutil.Process | None:
        """Its child that runs this command."""
        for child in psutil.Process(self.process.pid).children():
            with suppress(psutil.Error):
                if command in " ".join(child.cmdline()):
                    return child
        return None

    def end(self) -> None:
        """Kill what is left of it."""
        self.api.close()
        self.database.dispose()
        for process in [*self.family(), self.process] if self.process.poll() is None else []:
            process.kill()
        self.process.wait(30)


@pytest.fixture
def up(tmp_path: Path, migrated_file: Path) -> Iterator[Up]:
    """`vezna up` in a home that knows a tiny model and a small dataset."""
    found = Up(tmp_path, migrated_file)
    yield found
    found.end()


@pytest.mark.nightly
def test_ctrl_c_ends_everything_with_an_open_event_stream_a_run_and_an_estimate_in_progress(up: Up) -> None:
    run_id = up.api.post("/runs", json=spec("trains")).json()["id"]

    def run() -> RunRow:
        with up.database.reading() as session:
            return runs.get(session, run_id)

    def estimate() -> EstimateRow:
        with up.database.reading() as session:
            return session.get_one(EstimateRow, run().estimate_id)

    until(lambda: run().reported > 0 and estimate().status == "working", 120)
    with up.api.stream("GET", f"/runs/{run_id}/events") as stream:
        lines = stream.iter_lines()
        assert next(lines)
        family = up.family()
        os.killpg(up.process.pid, signal.SIGINT)
        up.process.wait(120)
        with suppress(httpx2.TransportError):
            list(lines)  # the stream ends, however it does
    assert psutil.wait_procs(family, 20)[1] == []
    # Killed at the end of the grace period, neither would have been handed back.
    assert (run().status, run().attempts) == ("queued", 0)
    assert (estimate().status, estimate().seen_at) == ("queued", None)
    assert "Finished server process" in (up.home / "logs" / "web.log").read_text()


@pytest.mark.slow
def test_vezna_up_starts_each_killed_process_again_and_they_work(up: Up) -> None:
    for command in ("-Q train", "-Q control", "app.cli web", "valkey-server"):
        first = up.node(command)
        assert first, command
        first.kill()
        until(partial(_is_another, up, command, first), 60)
        until(lambda: _ready(up.port), 120)
    assert up.said().count("ended and is started again") >= 4
    run_id = up.api.post("/runs", json=spec("succeeds")).json()["id"]
    until(lambda: up.api.get(f"/runs/{run_id}").json()["status"] == "succeeded", 180)


def _is_another(up: Up, command: str, first: psutil.Process) -> bool:
    again = up.node(command)
    return again is not None and again.pid != first.pid


def _ready(port: int) -> bool:
    try:
        return httpx2.get(f"http://127.0.0.1:{port}/readyz", timeout=10).is_success
    except httpx2.TransportError:
        return False
