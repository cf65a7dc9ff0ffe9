"""Reports of trainers: long ones, and those of a group."""

import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from app.domain.methods import FullSpec, LoraSpec
from app.domain.runs.job import EvaluationReport, GroupJob, LogReport, MemberReport, Report
from tests.support.rows import results
from tests.support.tiny import texts as tiny
from worker.children.child import EXIT_ABANDONED
from worker.children.host import MAX_LINE_BYTES
from worker.training import execution
from worker.training.host import TrainerProcess
from worker.training.protocol import PIECE_BYTES, Channel, pieces

ITEMS = 900_000
TRAINER = f"""
import sys
from app.domain.methods import FullSpec
from app.domain.runs.job import EvaluationReport, LogReport
from tests.support.rows.results import evaluation
from worker.training.protocol import Channel
channel = Channel()
sys.stdin.readline()
items = [f"a test item with a long name, number {{n}}" for n in range({ITEMS})]
channel.send(EvaluationReport(evaluation=evaluation(), items=items, scores=[0.5] * {ITEMS}))
channel.send(LogReport(message="short"))
"""


@pytest.mark.slow
def test_the_scores_of_900_000_items_arrive_and_what_follows_too(tmp_path: Path) -> None:
    process = TrainerProcess([sys.executable, "-c", TRAINER], {"PYTHONPATH": str(Path.cwd())})
    process.hand_over(tiny.job(tmp_path, tmp_path, FullSpec()), tmp_path, 300.0)
    reports: list[Report] = []
    deadline = time.monotonic() + 120
    while not process.finished_reporting and time.monotonic() < deadline:
        reports += process.reports(1.0)
    assert process.exit_status(10) == 0
    [evaluated, log] = reports
    assert isinstance(evaluated, EvaluationReport) and isinstance(log, LogReport)
    assert len(evaluated.model_dump_json()) > MAX_LINE_BYTES
    assert len(evaluated.items) == len(evaluated.scores) == ITEMS
    assert evaluated.items[-1].endswith(f"number {ITEMS - 1}")


def test_a_short_report_is_one_line() -> None:
    assert list(pieces(b"{}")) == [b"{}"]
    long = b"{" + b"a" * PIECE_BYTES + b"}"
    *parts, end = pieces(long)
    assert b"".join(part[1:] for part in parts) == long and end == b"="


@pytest.mark.slow
def test_a_report_beyond_the_limit_ends_the_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.training.host.MOST_REPORT_BYTES", MAX_LINE_BYTES)
    process = TrainerProcess([sys.executable, "-c", TRAINER], {"PYTHONPATH": str(Path.cwd())})
    process.hand_over(tiny.job(tmp_path, tmp_path, FullSpec()), tmp_path, 300.0)
    deadline = time.monotonic() + 120
    while not process.finished_reporting and time.monotonic() < deadline:
        assert process.reports(1.0) == []
    assert process.finished_reporting
    process.kill()


class Closed:
    """A channel that no process reads."""

    def __init__(self) -> None:
        self.tried: list[str] = []

    def send(self, message: MemberReport) -> None:
        self.tried.append(message.report.type)
        raise BrokenPipeError


@pytest.mark.parametrize(("end", "tried"), [(BrokenPipeError(), []), (results.result(), ["result", "result"])])
def test_it_ends_as_one_that_trains_a_single_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: Any, tried: Sequence[str]
) -> None:
    def group(jobs: Sequence[object], sinks: object, ended: Callable[[int, object, None], None]) -> None:
        for place in range(len(jobs)):
            ended(place, end, None)

    monkeypatch.setattr(execution, "run_group", group)
    jobs = [tiny.job(tmp_path / str(n), tmp_path, LoraSpec(r=4), table=tiny.rows(2, 0, 0)) for n in range(2)]
    file = tmp_path / "job.json"
    file.write_text(GroupJob(jobs=jobs).model_dump_json())
    channel = Closed()
    assert execution.execute(file, cast(Channel, channel), threading.Event()) == EXIT_ABANDONED
    assert channel.tried == tried
