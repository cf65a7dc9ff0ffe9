"""A report may be longer than the longest line of a child process."""

import sys
import time
from pathlib import Path

import pytest

from app.domain.methods import FullSpec
from app.domain.runs.job import EvaluationReport, LogReport, Report
from tests.support.tiny import texts as tiny
from worker.children.host import MAX_LINE_BYTES
from worker.training.host import TrainerProcess
from worker.training.protocol import PIECE_BYTES, pieces

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
