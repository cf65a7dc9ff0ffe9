"""The trainer process seen as its supervisor sees it: reports on stdout, orders on stdin, an exit status."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from pydantic import TypeAdapter

from app.domain.failures import FailureCode
from app.domain.methods import FullSpec, LoraSpec, MethodSpec
from app.domain.runs.job import (
    EvaluationReport,
    FailureReport,
    PhaseReport,
    Report,
    ResultReport,
    StepsReport,
    TrainJob,
)
from app.domain.runs.training import TrainingArguments
from tests.support.tiny import texts as tiny
from worker.children.child import EXIT_ABANDONED, EXIT_STOPPED
from worker.children.environment import ML_ENVIRONMENT
from worker.training.host import COMMAND
from worker.training.protocol import Handover

pytestmark = pytest.mark.slow

LORA = LoraSpec(r=4, target_modules=["query", "value"])
ENDLESS = tiny.FAST.model_copy(update={"max_steps": 1_000_000, "learning_rate": 1e-4})
REPORT: TypeAdapter[Report] = TypeAdapter(Report)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_model(tmp_path_factory.mktemp("model"))


@contextmanager
def trainer(
    directory: Path,
    model: Path,
    method: MethodSpec,
    training: TrainingArguments = tiny.FAST,
    lease_seconds: float = 300.0,
) -> Iterator[subprocess.Popen[str]]:
    """A trainer with a job; killed at the end if it still runs."""
    with waiting_trainer() as process:
        hand(process, tiny.job(directory, model, method, training), directory, lease_seconds)
        yield process


@contextmanager
def waiting_trainer() -> Iterator[subprocess.Popen[str]]:
    """A trainer that has no job yet; killed at the end if it still runs."""
    process = subprocess.Popen(
        COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | ML_ENVIRONMENT
    )
    with process:
        yield process
        process.kill()


def hand(process: subprocess.Popen[str], job: TrainJob, directory: Path, lease_seconds: float = 300.0) -> None:
    """Give it its job."""
    (directory / "job.json").write_text(job.model_dump_json())
    (directory / "empty").mkdir()
    say(process, handover(directory, lease_seconds).model_dump_json())


def handover(directory: Path, lease_seconds: float = 300.0) -> Handover:
    """The line that tells of a job in a directory."""
    return Handover(
        job=directory / "job.json",
        directory=directory / "empty",
        stderr=directory / "stderr.txt",
        lease_seconds=lease_seconds,
    )


def say(process: subprocess.Popen[str], *lines: str) -> None:
    assert process.stdin
    process.stdin.write("".join(f"{line}\n" for line in lines))
    process.stdin.flush()


def until_steps(process: subprocess.Popen[str]) -> None:
    """Read reports until training has begun."""
    assert process.stdout
    for line in process.stdout:
        if isinstance(REPORT.validate_json(line), StepsReport):
            return
    pytest.fail("the trainer ended before its first step")


def failure_of(process: subprocess.Popen[str]) -> FailureReport:
    assert process.stdout
    last = REPORT.validate_json(process.stdout.readlines()[-1])
    assert isinstance(last, FailureReport)
    assert process.wait(10) == 0
    return last


@pytest.mark.nightly
def test_a_whole_run_is_reported_line_by_line(tmp_path: Path, model: Path) -> None:
    with trainer(tmp_path, model, LORA) as process:
        assert process.stdout
        reports = [REPORT.validate_json(line) for line in process.stdout]
        assert process.wait() == 0
    result = reports[-1]
    assert isinstance(result, ResultReport)
    steps = [s.step for r in reports if isinstance(r, StepsReport) for s in r.steps]
    assert steps == list(range(1, result.result.steps + 1))
    assert [r.evaluation for r in reports if isinstance(r, EvaluationReport)] == result.result.evaluations
    assert any(isinstance(r, PhaseReport) and r.total_steps == 24 for r in reports)
    clocks = result.result.clocks
    assert clocks.accounted == pytest.approx(clocks.wall, rel=0.01)
    assert clocks.start > 0.5, "the interpreter and its libraries take their time"
    assert (tmp_path / "output" / "adapter" / "adapter_model.safetensors").exists()


@pytest.mark.nightly
def test_told_to_stop_it_stops(tmp_path: Path, model: Path) -> None:
    with trainer(tmp_path, model, LORA, ENDLESS) as process:
        until_steps(process)
        say(process, "alive", "stop")
        assert process.stdout
        rest = [REPORT.validate_json(line) for line in process.stdout]
        assert process.wait(10) == EXIT_STOPPED
        assert not any(isinstance(r, ResultReport | FailureReport) for r in rest)


@pytest.mark.nightly
def test_sigterm_is_a_stop(tmp_path: Path, model: Path) -> None:
    with trainer(tmp_path, model, LORA, ENDLESS) as process:
        until_steps(process)
        process.terminate()
        assert process.stdout
        process.stdout.read()
        assert process.wait(10) == EXIT_STOPPED


@pytest.mark.nightly
def test_when_its_supervisor_is_gone_it_ends_at_once(tmp_path: Path, model: Path) -> None:
    with trainer(tmp_path, model, LORA, ENDLESS) as process:
        until_steps(process)
        assert process.stdin
        process.stdin.close()
        assert process.wait(5) == EXIT_ABANDONED


@pytest.mark.nightly
def test_without_a_renewed_lease_it_ends(tmp_path: Path, model: Path) -> None:
    with trainer(tmp_path, model, LORA, ENDLESS, lease_seconds=3.0) as process:
        for _ in range(5):  # 5 seconds, which the lease alone would not have lasted
            say(process, "alive")
            time.sleep(1)
        assert process.poll() is None
        assert process.stdout
        process.stdout.read()
        assert process.wait(10) == EXIT_ABANDONED


def until_imported(process: subprocess.Popen[str]) -> psutil.Process:
    """Wait until a trainer without a job has nothing left to do."""
    seen, used, idle_since = psutil.Process(process.pid), -1.0, time.monotonic()
    while time.monotonic() - idle_since < 1.0:
        time.sleep(0.1)
        times = seen.cpu_times()
        if times.user + times.system != used or seen.status() != psutil.STATUS_SLEEPING:
            used, idle_since = times.user + times.system, time.monotonic()
    assert used > 1.0, "torch, transformers and peft take longer"
    return seen


@pytest.mark.nightly
def test_a_waiting_trainer_counts_from_the_claim_above_its_libraries(tmp_path: Path, model: Path) -> None:
    with waiting_trainer() as process:
        libraries = until_imported(process).memory_info().rss
        job = tiny.job(tmp_path, model, LORA)
        hand(process, job, tmp_path)
        assert process.stdout
        first = REPORT.validate_json(process.stdout.readline())
        ready = time.time() - job.claimed_at
        assert isinstance(first, PhaseReport)
        last = REPORT.validate_json(process.stdout.readlines()[-1])
    assert isinstance(last, ResultReport)
    assert 0 < last.result.clocks.start <= ready
    first_use = 2**25  # of the libraries, which measuring the device's rates makes
    assert libraries <= last.result.memory.before_bytes <= libraries + first_use


@pytest.mark.nightly
def test_a_trainer_that_waits_holds_no_file_and_no_device_and_can_be_told_to_go() -> None:
    with waiting_trainer() as process:
        seen = until_imported(process)
        assert seen.open_files() == []
        held = [link.readlink().as_posix() for link in Path(f"/proc/{process.pid}/fd").iterdir()]
        assert not [name for name in held if "nvidia" in name]
        process.terminate()
        assert process.wait(5) == EXIT_STOPPED


def test_a_trainer_that_waits_ends_with_its_supervisor() -> None:
    with waiting_trainer() as process:
        assert process.stdin
        process.stdin.close()
        assert process.wait(10) == EXIT_ABANDONED


@pytest.mark.nightly
def test_a_job_that_is_none_is_our_mistake_and_the_trace_is_in_its_file(tmp_path: Path) -> None:
    with waiting_trainer() as process:
        (tmp_path / "job.json").write_text("{}")
        (tmp_path / "empty").mkdir()
        say(process, handover(tmp_path).model_dump_json())
        failure = failure_of(process).failure
    assert failure.code is FailureCode.INTERNAL and "job file is invalid" in failure.message
    assert "ValidationError" in (tmp_path / "stderr.txt").read_text()


@pytest.mark.nightly
def test_what_is_imported_ahead_opens_no_device_and_starts_no_threads_for_mathematics() -> None:
    program = (
        "import os\n"
        "import torch\n"
        "import worker.training.execution\n"
        "assert not torch.cuda.is_initialized()\n"
        "threads = lambda: len(os.listdir('/proc/self/task'))\n"
        "before = threads()\n"
        "torch.rand(2000, 2000).exp()\n"
        "assert torch.get_num_threads() == 2 and threads() == before + 1, (before, threads())\n"
    )
    environment = os.environ | ML_ENVIRONMENT | {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, timeout=120)


@pytest.mark.nightly
def test_a_model_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    with trainer(tmp_path, tmp_path / "nowhere", FullSpec()) as process:
        assert failure_of(process).failure.code is FailureCode.MODEL_UNAVAILABLE


def test_prints_of_libraries_do_not_reach_the_reports(tmp_path: Path) -> None:
    program = "import os\nfrom app.domain.runs.job import LogReport\nfrom worker.training.protocol import Channel\n"
    program += (
        "c = Channel()\nprint('noise', flush=True)\nos.system('echo more noise')\nc.send(LogReport(message='é'))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == '{"type": "log", "message": "é"}\n'
    assert "noise" in done.stderr
