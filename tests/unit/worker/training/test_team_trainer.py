"""A trainer whose run has two devices: it starts the second process, and neither outlives the other."""

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import psutil
import pytest
from pydantic import TypeAdapter

from app.domain.failures import Failure, FailureCode
from app.domain.methods import FullSpec, LoraSpec, MethodSpec
from app.domain.runs.job import CheckpointReport, FailureReport, Report, ResultReport, StepsReport, TrainJob
from tests.support import led as leaders
from tests.support.tiny import texts as tiny
from worker.children.child import EXIT_ABANDONED, EXIT_STOPPED
from worker.training.followers import visible
from worker.training.host import TrainerProcess

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # pairs of processes that import the ML libraries

TRAINING = tiny.FAST.model_copy(
    update={"devices": 2, "max_steps": 100, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}
)
LORA = LoraSpec(r=4, lora_dropout=0.1, target_modules=["query", "value"])
EXIT_SECONDS = 60.0
Act = Callable[[TrainerProcess, Report], None]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # With dropout: the generators of both processes are part of what must be kept.
    return tiny.save_model(tmp_path_factory.mktemp("model"), hidden_dropout_prob=0.1)


def job(directory: Path, model: Path, method: MethodSpec, resume: Path | None = None) -> TrainJob:
    alone = tiny.job(directory, model, method, TRAINING)
    changes = {"checkpoint_seconds": 0.0, "threads": 2, "resume": str(resume) if resume else None}
    return alone.model_copy(update=changes)


def follow(directory: Path, job: TrainJob, act: Act = lambda trainer, report: None) -> tuple[list[Report], int]:
    """Its reports, each of which `act` sees as it comes, and its exit status. Afterwards no process is left."""
    trainer = TrainerProcess()
    reports: list[Report] = []
    children: set[psutil.Process] = set()
    try:
        assert trainer.hand_over(job, directory, 300.0)
        while not trainer.finished_reporting:
            for report in trainer.reports(wait=600.0):
                if isinstance(report, StepsReport):
                    with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
                        children |= {psutil.Process(pid) for pid in second(trainer)}
                reports.append(report)
                act(trainer, report)
        status = trainer.exit_status(EXIT_SECONDS)
    finally:
        trainer.kill()
    assert children
    _gone, alive = psutil.wait_procs(children, timeout=EXIT_SECONDS)
    assert not alive
    return reports, status


def second(trainer: TrainerProcess) -> list[int]:
    """The process id of rank 1, while it runs."""
    try:
        children = psutil.Process(trainer.pid).children()
        return [child.pid for child in children if "worker.training.follower" in child.cmdline()]
    except psutil.NoSuchProcess:
        return []


def losses(reports: list[Report]) -> list[tuple[int, float, float]]:
    steps = [step for report in reports if isinstance(report, StepsReport) for step in report.steps]
    return [(step.step, step.loss, step.grad_norm) for step in steps]


@pytest.mark.nightly
def test_a_death_of_the_second_process_ends_both_and_the_run_resumes(tmp_path: Path, model: Path) -> None:
    killed: list[int] = []

    def die(trainer: TrainerProcess, report: Report) -> None:
        if isinstance(report, CheckpointReport) and not killed:
            [pid] = second(trainer)
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

    expected, status = follow(tmp_path / "whole", job(tmp_path / "whole", model, FullSpec()))
    assert status == 0 and isinstance(expected[-1], ResultReport)
    assert len(expected[-1].result.memory.rank_peak_bytes) == 2

    reports, status = follow(tmp_path / "first", job(tmp_path / "first", model, FullSpec()), die)
    assert status == EXIT_ABANDONED, "the supervisor queues the run again"
    assert not any(isinstance(report, ResultReport | FailureReport) for report in reports)

    complete = [path for path in (tmp_path / "first" / "output" / ".checkpoints").iterdir() if path.name.isdigit()]
    folder = max(complete, key=lambda path: int(path.name))
    assert int(folder.name) < TRAINING.max_steps
    resumed, status = follow(tmp_path / "second", job(tmp_path / "second", model, FullSpec(), folder))
    assert status == 0
    assert losses(resumed) == losses(expected)


def test_both_stop_at_the_same_step_and_leave_a_checkpoint(tmp_path: Path, model: Path) -> None:
    def stop(trainer: TrainerProcess, report: Report) -> None:
        if isinstance(report, StepsReport):
            trainer.ask_to_stop()

    endless = job(tmp_path / "run", model, LORA)
    training = TRAINING.model_copy(update={"max_steps": 1_000_000})
    spec = endless.spec.model_copy(update={"training": training})
    endless = endless.model_copy(update={"spec": spec, "checkpoint_seconds": None})
    reports, status = follow(tmp_path / "run", endless, stop)
    assert status == EXIT_STOPPED
    [checkpoint] = [report for report in reports if isinstance(report, CheckpointReport)]
    assert checkpoint.step == losses(reports)[-1][0]


LONG = 200.0
"""A grace period that no test waits for."""
REPORT = FailureReport(failure=Failure(code=FailureCode.INTERNAL, message="connection closed by peer"))
RANKS = f"""
import json, os, select, sys
from pathlib import Path
rank = json.loads(sys.stdin.readline())["rank"]
def report():
    print({REPORT.model_dump_json()!r}, flush=True)
def wait_for(file):
    while not Path(file).exists():
        select.select([], [], [], 0.02)
"""
"""What the code of every rank below begins with."""


class Led(Protocol):
    """Exit status and reports of a leader whose followers execute some code."""

    def __call__(self, code: str, world: int = 2, grace: float = LONG, settles: bool = False) -> tuple[int, str]: ...


@pytest.fixture
def led(tmp_path: Path) -> Led:
    def run(code: str, world: int = 2, grace: float = LONG, settles: bool = False) -> tuple[int, str]:
        return leaders.led(tmp_path, code, world, grace, settles)

    return run


def test_the_failure_of_a_follower_is_that_of_the_run(led: Led) -> None:
    failure = Failure(code=FailureCode.OUT_OF_MEMORY, message="rank 1 ran out of memory")
    line = FailureReport(failure=failure).model_dump_json()
    status, reports = led(f"print({line!r})")
    assert status == 0
    assert TypeAdapter[Report](Report).validate_json(reports) == FailureReport(failure=failure)


@pytest.mark.parametrize("code", ["import os; os.kill(os.getpid(), 9)", "raise SystemExit(1)"])
def test_a_follower_that_ends_without_a_reason_ends_the_leader(led: Led, code: str) -> None:
    assert led(code) == (EXIT_ABANDONED, "")


def test_a_follower_that_reports_nonsense_ends_the_leader(led: Led) -> None:
    assert led(f"{RANKS}\nprint('{{}}', flush=True)\nsys.stdin.read()") == (EXIT_ABANDONED, "")


def test_a_death_wins_over_the_failure_that_it_causes_in_another_rank(led: Led) -> None:
    killed = "wait_for('reported'); os.kill(os.getpid(), 9)"
    failed = "report(); Path('reported').touch()"
    assert led(f"{RANKS}\nif rank == 1:\n    {killed}\nelse:\n    {failed}", world=3) == (EXIT_ABANDONED, "")


def test_a_rank_whose_output_has_ended_counts_as_dying_until_it_has_exited(led: Led) -> None:
    """As one that is killed and whose memory takes longer to free than the grace period."""
    dying = "os.close(1); Path('silent').touch(); wait_for('reported'); select.select([], [], [], 1.0); sys.exit(1)"
    failed = "wait_for('silent'); report(); Path('reported').touch()"
    code = f"{RANKS}\nif rank == 1:\n    {dying}\nelse:\n    {failed}"
    assert led(code, world=3, grace=0.5) == (EXIT_ABANDONED, "")


def test_a_failure_is_reported_after_the_grace_period_if_no_rank_dies(led: Led) -> None:
    code = f"{RANKS}\nreport() if rank == 2 else sys.stdin.read()"
    status, reports = led(code, world=3, grace=0.1)
    assert status == 0
    assert TypeAdapter[Report](Report).validate_json(reports) == REPORT


def test_a_failure_of_the_leader_waits_for_the_death_that_has_caused_it(led: Led) -> None:
    assert led(f"{RANKS}\nos.kill(os.getpid(), 9)", settles=True) == (EXIT_ABANDONED, "")
    assert led(RANKS, world=3, settles=True) == (leaders.SETTLED, ""), "both have done their part"


def test_each_process_sees_a_gpu_of_its_own() -> None:
    assert visible(1, {"CUDA_VISIBLE_DEVICES": "GPU-a,GPU-b"}) == {"CUDA_VISIBLE_DEVICES": "GPU-b"}
    assert visible(1, {}) == {"CUDA_VISIBLE_DEVICES": "1"}
    assert visible(1, {"CUDA_VISIBLE_DEVICES": ""}) == {"CUDA_VISIBLE_DEVICES": ""}
