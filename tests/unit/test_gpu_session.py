"""The session on a GPU (benchmarks/gpu_session.py): a rehearsal on the CPU, and what happens to parts that fail."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from app.settings import ROOT

PARTS = ["tests", "memory", "speed", "full", "energy", "resume"]


@pytest.fixture(scope="module")
def sessions() -> Iterator[Any]:
    """benchmarks/gpu/session.py."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        yield import_module("gpu.session")
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))


def test_a_part_that_fails_is_recorded_and_the_next_one_runs(sessions: Any, tmp_path: Path) -> None:
    session = sessions.Session(tmp_path, tmp_path, 60, rehearsal=True)

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


def test_the_deadline_ends_a_measurement_and_the_parts_after_it(sessions: Any, tmp_path: Path) -> None:
    session = sessions.Session(tmp_path, tmp_path, 0.2, rehearsal=True)
    began = time.monotonic()
    session.run("endless", "Endless", lambda session, part: session.measure(part, {}, lambda: signal.pause()))
    session.run("late", "Late", lambda session, part: pytest.fail("it began after the deadline"))
    assert time.monotonic() - began < 60
    endless, late = session.parts
    assert endless.state == "ended by the deadline" and not endless.rows
    assert (late.state, late.notes) == ("not started", ["The deadline was reached before it began."])
    assert not session.failed


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_rehearsal_runs_every_part_on_the_cpu(tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/gpu_session.py", "--rehearse", "--deadline", "800", "--out", str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]
    content = json.loads((tmp_path / "session.json").read_text())
    parts = {part["name"]: part for part in content["parts"]}
    assert list(parts) == PARTS
    assert {part["state"] for part in parts.values()} == {"done"}
    assert "rehearsal" in content["about"]["card"]

    tests = parts["tests"]["rows"]
    assert [row["tests"] for row in tests] == [row["skipped"] for row in tests] and tests[0]["tests"] > 0
    for part, count in (("memory", 12), ("full", 8)):
        rows = parts[part]["rows"]
        assert len(rows) == count and not [row for row in rows if "not measured" in row]
        assert min(row["measured (GiB)"] for row in rows) > 0
    sides = [row["side"] for row in parts["speed"]["rows"]]
    assert sides[0] == "padded Trainer" and len(sides) > 1
    assert all(row["share of the matmul peak (%)"] > 0 for row in parts["speed"]["rows"])
    assert "no energy counter" in parts["energy"]["rows"][0]["not measured"]
    assert all(row["repeated is identical"] and row["resumed is identical"] for row in parts["resume"]["rows"])


@pytest.mark.slow
def test_an_unknown_part_is_refused_with_the_choices() -> None:
    command = [sys.executable, "benchmarks/gpu_session.py", "--parts", "memory,heat"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "no part heat. Choose from tests, memory" in ended.stderr
