"""The session on a GPU (benchmarks/gpu_session.py): a rehearsal on the CPU, and what happens to parts that fail."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from app.settings import ROOT
from benchmarks.gpu import parts
from benchmarks.gpu.runs import peaks
from benchmarks.gpu.session import NotMeasured, Part, Session

PARTS = ["tests", "memory", "speed", "full", "adapters", "energy", "resume"]


def test_a_part_that_fails_is_recorded_and_the_next_one_runs(tmp_path: Path) -> None:
    session = Session(tmp_path, tmp_path, 60, rehearsal=True)

    def failing(session: Any, part: Any) -> None:
        session.measure(part, {"what": "killed"}, lambda: os.kill(os.getpid(), signal.SIGKILL))
        session.measure(part, {"what": "raised"}, lambda: {"ratio": 1 / 0})
        raise ValueError("no such | thing")

    session.run("first", "First", failing)
    session.run("second", "Second", lambda session, part: session.measure(part, {"what": "sum"}, lambda: {"n": 1 + 1}))
    first, second = json.loads((tmp_path / "session.json").read_text())["parts"]
    assert first["state"] == "failed" and first["notes"] == ["ValueError: no such | thing"]
    assert [row["not measured"] for row in first["rows"]] == [
        "The process ended with signal SIGKILL.",
        "ZeroDivisionError: division by zero",
    ]
    assert (second["state"], second["rows"]) == ("done", [{"what": "sum", "n": 2}])
    assert "| sum | 2 |" in (tmp_path / "session.md").read_text()
    assert session.failed


@pytest.mark.slow
def test_the_deadline_ends_a_measurement_and_the_parts_after_it(tmp_path: Path) -> None:
    session = Session(tmp_path, tmp_path, 2, rehearsal=True)
    began = time.monotonic()
    session.run("endless", "Endless", lambda session, part: session.measure(part, {}, lambda: signal.pause()))
    session.run("late", "Late", lambda session, part: pytest.fail("it began after the deadline"))
    assert time.monotonic() - began < 60
    endless, late = session.parts
    assert endless.state == "ended by the deadline" and not endless.rows
    assert (late.state, late.notes) == ("not started", ["The deadline was reached before it began."])
    assert not session.failed


class Measured:
    """A run that notes the process of its estimate, and of everything that uses CUDA."""

    def __init__(self, seen: Path, precision: str) -> None:
        self._seen, self._precision = seen, precision

    def _note(self, what: str) -> None:
        with self._seen.open("a") as file:
            file.write(f"{what} {os.getpid()}\n")

    def in_bf16(self, session: Any) -> bool:
        self._note("cuda")
        return True

    def estimated(self, session: Any, *, bf16: bool) -> Any:
        self._note("estimated")
        return SimpleNamespace(ledger=SimpleNamespace(total=2**30))

    def trained(self, session: Any) -> Any:
        self._note("cuda")
        memory = SimpleNamespace(train_peak_bytes=2**30, reserved_bytes=None)
        environment, clocks = SimpleNamespace(precision=self._precision), SimpleNamespace(train=2.0)
        return SimpleNamespace(memory=memory, environment=environment, clocks=clocks, tokens=10), None


def test_an_estimate_is_made_before_its_process_uses_cuda(tmp_path: Path) -> None:
    """torch refuses backward passes in a fork of a process that has trained on CUDA."""
    session = Session(tmp_path, tmp_path, 60, rehearsal=True)
    seen = tmp_path / "seen"
    assert peaks(session, Measured(seen, "bf16"))["measured (GiB)"] == 1
    used: set[str] = set()
    for line in seen.read_text().splitlines():
        what, process = line.split()
        assert what == "cuda" or process not in used
        if what == "cuda":
            used.add(process)
    assert seen.read_text().count("estimated") == 1 and len(used) == 2


def test_an_estimate_of_another_precision_is_no_result(tmp_path: Path) -> None:
    session = Session(tmp_path, tmp_path, 60, rehearsal=True)
    with pytest.raises(NotMeasured, match="another precision than fp32"):
        peaks(session, Measured(tmp_path / "seen", "fp32"))


@pytest.mark.parametrize("installed", [False, True])
def test_tests_are_labelled_by_libraries(installed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pytest_run(command: list[str], **options: Any) -> Any:
        report = command[-1].split("--junitxml=")[1].split("'")[0]
        Path(report).write_text('<testsuites><testsuite tests="1" skipped="0" time="1"/></testsuites>')

    monkeypatch.setattr(parts, "find_spec", lambda name: object() if installed else None)
    monkeypatch.setattr(parts.subprocess, "run", pytest_run)
    part = Part("tests", "Tests")
    parts.tests(Session(tmp_path, tmp_path, 60, rehearsal=True), part)
    assert [row[""] for row in part.rows] == ["with bitsandbytes"] * installed + ["without bitsandbytes"]
    assert ("bitsandbytes is not installed." in part.notes) != installed


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_a_rehearsal_runs_every_part_on_the_cpu(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.gpu_session", "--rehearse", "--deadline", "800"]
    ended = subprocess.run([*command, "--out", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]
    content = json.loads((tmp_path / "session.json").read_text())
    parts = {part["name"]: part for part in content["parts"]}
    assert list(parts) == PARTS
    assert {part["state"] for part in parts.values()} == {"done"}
    assert "rehearsal" in content["about"]["card"]

    tests = parts["tests"]["rows"]
    assert [row["tests"] for row in tests] == [row["skipped"] for row in tests] and tests[0]["tests"] > 0
    for part, count in (("memory", 13), ("full", 8)):
        rows = parts[part]["rows"]
        assert len(rows) == count and not [row for row in rows if "not measured" in row]
        assert min(row["measured (GiB)"] for row in rows) > 0
    sides = [row["side"] for row in parts["speed"]["rows"]]
    assert sides[0] == "padded Trainer" and {"Vezna, packing", "Vezna, padding-free batches"} < set(sides)
    assert all(row["share of the matmul peak (%)"] > 0 for row in parts["speed"]["rows"])
    assert [row["adapters"] for row in parts["adapters"]["rows"]] == [1, 2, 4, 8]
    assert min(row["tokens/s of the group"] for row in parts["adapters"]["rows"]) > 0
    assert "no energy counter" in parts["energy"]["rows"][0]["not measured"]
    assert all(row["repeated is identical"] and row["resumed is identical"] for row in parts["resume"]["rows"])


@pytest.mark.nightly
def test_an_unknown_part_is_refused_with_the_choices() -> None:
    command = [sys.executable, "-m", "benchmarks.gpu_session", "--parts", "memory,heat"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "no part heat. Choose from tests, memory" in ended.stderr
