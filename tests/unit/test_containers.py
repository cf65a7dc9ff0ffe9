"""What `make containers` says and returns where it cannot check, and where a step fails."""

import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.containers import __main__ as containers
from tests.containers import engine
from tests.containers.engine import Daemon, Failed, Skip


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No steps yet, and the handlers of signals as they were."""
    monkeypatch.setattr(containers, "times", [])
    monkeypatch.delenv(engine.INSIDE, raising=False)
    numbers = signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM
    handlers = [signal.getsignal(number) for number in numbers]
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number, handler in zip(numbers, handlers, strict=True):
        signal.signal(number, handler)


def program(folder: Path, name: str, lines: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program of this name, found before any other."""
    (folder / name).write_text(f"#!/bin/sh\n{lines}\n")
    (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


def works_until(error: BaseException) -> Callable[[], None]:
    def work() -> None:
        containers.timed("the first step", lambda: None)
        containers.timed("the second step", failing, error)

    return work


def failing(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize(
    ("error", "cut", "usual", "said"),
    [
        (Skip("no room"), 0, 0, "SKIPPED, all well until then (the first step): no room"),
        (containers.LimitReached(), 0, 1, "NOT FINISHED in 2400 s, ended in “the second step”; all well until then"),
        (Failed("docker ended with 1"), 1, 1, "FAILED in “the second step”: Failed('docker ended with 1')"),
        (AssertionError("a verdict changed"), 1, 1, "FAILED in “the second step”"),
        (subprocess.TimeoutExpired("docker", 5), 1, 1, "FAILED in “the second step”"),
    ],
)
def test_a_step_that_fails_fails_and_what_the_machine_lacks_is_said(
    error: BaseException,
    cut: int,
    usual: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(engine, "answers", lambda: True)
    monkeypatch.setattr(containers, "LIMIT_SECONDS", 2400.0)
    monkeypatch.setattr(containers, "on_this_machines_engine", works_until(error))
    monkeypatch.setenv("CI", "true")
    monkeypatch.setenv("VEZNA_CONTAINERS_CUT", "yes")
    assert containers.main() == cut
    monkeypatch.setenv("VEZNA_CONTAINERS_CUT", "")
    assert containers.main() == usual
    output = capsys.readouterr()
    assert said in output.out + output.err


def test_its_time_is_over_within_the_limit(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(engine, "answers", lambda: True)
    monkeypatch.setattr(containers, "LIMIT_SECONDS", 0.1)
    monkeypatch.setattr(containers, "on_this_machines_engine", lambda: engine.run("sleep", "60"))
    monkeypatch.delenv("CI", raising=False)
    assert containers.main() == 1
    assert "NOT FINISHED in 0 s" in capsys.readouterr().out


def test_an_engine_that_does_not_start_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "dockerd", "seq 1 30\necho no cgroup may be made\nexit 1", monkeypatch)
    program(tmp_path, "docker", "exit 1", monkeypatch)
    program(tmp_path, "mount", "exit 0", monkeypatch)
    monkeypatch.setenv(engine.INSIDE, "a-group")
    with pytest.raises(Skip, match=r"does not start here; its last lines:\n12\n(.+\n)+no cgroup may be made"):
        Daemon(tmp_path).start(network=False)


def test_a_machine_without_namespaces_or_mounts_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "unshare", "echo Operation not permitted\nexit 1", monkeypatch)
    with pytest.raises(Skip, match=r"allows no namespaces for one(?s:.+)Operation not permitted"):
        engine.alone(["true"], tmp_path)
    program(tmp_path, "mount", "exit 32", monkeypatch)
    with pytest.raises(Skip, match="no Docker engine can be started here"):
        Daemon(tmp_path)


@pytest.mark.parametrize("command", ["network", "run"])
def test_an_engine_without_containers_is_skipped(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "docker", f'test "$1" != {command} || {{ echo not allowed; exit 125; }}', monkeypatch)
    with pytest.raises(Skip, match=r"runs no container here(?s:.+)not allowed"):
        engine.require_containers("python:3")


def test_an_engine_whose_builds_reach_no_packages_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "docker", 'echo no route to host for "$@"; exit 1', monkeypatch)
    with pytest.raises(Skip, match=r"no image can be built here(?s:.+)no route to host for build --no-cache --network"):
        engine.require_builds("python:3", ["--network", "host"])
