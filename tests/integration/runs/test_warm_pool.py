"""One trainer is kept waiting: the next run uses it, nothing depends on it, and it never outlives its worker."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from app.broker.queue import CONTROL_QUEUE, TRAIN_QUEUE
from app.domain.methods import FullSpec
from app.domain.runs.job import Report, ResultReport, TrainJob
from app.domain.runs.spec import RunSpec
from app.settings import ROOT, Settings
from app.store.database import migrate
from app.store.database.session import Database
from tests.support.servers.running_stack import until
from worker.training.host import TrainerProcess
from worker.training.warm_pool import WarmPool

FAKE = ROOT / "tests/support/fakes/trainer.py"
SUCCEEDS = (sys.executable, str(FAKE), "succeeds")


@pytest.fixture
def job(tmp_path: Path) -> TrainJob:
    output = tmp_path / "output"
    output.mkdir()
    return TrainJob(
        run_id=1,
        epoch=1,
        spec=RunSpec(base_model="tiny", dataset="small", method=FullSpec()),
        model_location="/nowhere",
        dataset_file="/nowhere.parquet",
        labels=["no", "yes"],
        output=str(output),
        claimed_at=time.time(),
    )


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake trainer finds `tests`."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@contextmanager
def keeping(*command: str) -> Iterator[WarmPool]:
    """WarmPool with a spare that waits. No fixture, since pytest gives each phase of a test another environment."""
    found = WarmPool(command or SUCCEEDS, keep_spare=True)
    found.warm_up()
    try:
        yield found
    finally:
        found.end()


def spare_of(trainers: WarmPool) -> TrainerProcess:
    assert trainers.spare is not None
    return trainers.spare


def finish(trainer: TrainerProcess) -> Report:
    """Its last report."""
    reports: list[Report] = []
    while not trainer.finished_reporting:
        reports += trainer.reports(wait=1.0)
    assert trainer.exit_status(5.0) == 0
    return reports[-1]


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_the_next_run_uses_the_spare_and_another_takes_its_place(job: TrainJob, tmp_path: Path) -> None:
    with keeping() as trainers:
        waiting = spare_of(trainers)
        assert psutil.Process(waiting.pid).cwd() == "/", "it keeps no directory from being removed"
        trainer = trainers.start(job, tmp_path, 5.0)
        assert trainer is waiting
        assert spare_of(trainers).pid != waiting.pid and spare_of(trainers).alive
        assert isinstance(finish(trainer), ResultReport)
        assert spare_of(trainers).alive


def test_a_spare_that_died_is_replaced_and_the_run_does_not_notice(job: TrainJob, tmp_path: Path) -> None:
    with keeping() as trainers:
        dead = spare_of(trainers)
        os.kill(dead.pid, signal.SIGKILL)
        until(lambda: not dead.alive, 5)
        trainer = trainers.start(job, tmp_path, 5.0)
        assert trainer.pid != dead.pid
        assert isinstance(finish(trainer), ResultReport)
        assert spare_of(trainers).alive


@pytest.mark.nightly
def test_a_spare_that_no_longer_listens_is_replaced_too(job: TrainJob, tmp_path: Path) -> None:
    marker = tmp_path / "deaf"
    deaf_at_first = (
        "import os, pathlib, runpy, sys, time\n"
        f"marker = pathlib.Path({str(marker)!r})\n"
        "if not marker.exists():\n"
        "    os.close(0)\n"
        "    marker.touch()\n"
        "    time.sleep(60)\n"
        f"sys.argv = ['', 'succeeds']; runpy.run_path({str(FAKE)!r}, run_name='__main__')\n"
    )
    with keeping(sys.executable, "-c", deaf_at_first) as trainers:
        deaf = spare_of(trainers)
        until(marker.exists, 10)
        assert isinstance(finish(trainers.start(job, tmp_path, 5.0)), ResultReport)
        assert gone(deaf.pid)


def test_a_spare_of_another_environment_is_replaced(
    job: TrainJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with keeping() as trainers:
        stale = spare_of(trainers)
        monkeypatch.setenv("HF_TOKEN", "new")
        trainer = trainers.start(job, tmp_path, 5.0)
        assert trainer.pid != stale.pid and gone(stale.pid)
        spare = psutil.Process(spare_of(trainers).pid)
        # For a moment it is a copy of this process, with what this one was started with.
        until(lambda: spare.environ().get("HF_TOKEN") == "new", seconds=5)
        assert isinstance(finish(trainer), ResultReport)


def test_where_no_spare_is_wanted_each_trainer_is_started_for_its_job(job: TrainJob, tmp_path: Path) -> None:
    trainers = WarmPool(SUCCEEDS)
    trainers.warm_up()
    assert trainers.spare is None
    assert isinstance(finish(trainers.start(job, tmp_path, 5.0)), ResultReport)
    assert trainers.spare is None


@pytest.mark.slow
def test_a_spare_dies_with_the_process_that_keeps_it() -> None:
    program = (
        "import time\n"
        "from worker.training.warm_pool import WarmPool\n"
        "trainers = WarmPool(keep_spare=True)\n"
        "trainers.warm_up()\n"
        "print(trainers.spare.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True) as keeper:
        assert keeper.stdout
        spare = int(keeper.stdout.readline())
        until(lambda: "worker.training.child" in psutil.Process(spare).cmdline(), 10)
        keeper.kill()
    until(lambda: gone(spare), 10)


@contextmanager
def node(queue: str, settings: Settings, broker: str) -> Iterator[psutil.Process]:
    """A Celery node of one queue that is ready."""
    migrate.upgrade(Database(settings.database))
    environment = os.environ | {
        "VEZNA_HOME": str(settings.home),
        "VEZNA_BROKER_URL": broker,
        "VEZNA_BROKER_PREFIX": f"{settings.home}:",
        "VEZNA_DEVICE": "cpu",
    }
    command = [sys.executable, "-m", "celery", "-A", "worker.celery", "worker", "-Q", queue, "-c", "1"]
    log = settings.home / "log"
    with log.open("wb") as told:
        started = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=told, stderr=told)
    with started:
        try:
            until(lambda: "ready." in log.read_text() or started.poll() is not None, 30)
            assert started.poll() is None, log.read_text()
            yield psutil.Process(started.pid)
        finally:
            started.kill()


def trainers_of(worker: psutil.Process) -> list[psutil.Process]:
    found = []
    for child in worker.children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it may end while it is looked at
            if "worker.training.child" in child.cmdline():
                found.append(child)
    return found


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    home = tmp_path / "home"
    home.mkdir()
    return Settings(home=home)


@pytest.mark.slow
def test_a_worker_keeps_a_spare_and_takes_it_along_when_it_is_told_to_stop(settings: Settings, broker: str) -> None:
    with node(TRAIN_QUEUE, settings, broker) as worker:
        until(lambda: len(trainers_of(worker)) == 1, 10)
        [spare] = trainers_of(worker)
        worker.terminate()
        worker.wait(20)
        until(lambda: gone(spare.pid), 5)


@pytest.mark.nightly
def test_a_pool_child_that_is_killed_leaves_no_spare_and_the_next_one_has_its_own(
    settings: Settings, broker: str
) -> None:
    with node(TRAIN_QUEUE, settings, broker) as worker:
        until(lambda: len(trainers_of(worker)) == 1, 10)
        [spare] = trainers_of(worker)
        spare.parent().kill()
        until(lambda: gone(spare.pid), 10)
        until(lambda: [p.pid for p in trainers_of(worker)] not in ([], [spare.pid]), 20)


@pytest.mark.nightly
def test_the_control_node_keeps_none(settings: Settings, broker: str) -> None:
    with node(CONTROL_QUEUE, settings, broker) as worker:
        until(lambda: len(worker.children()) == 1, 10)
        time.sleep(1.0)
        assert trainers_of(worker) == []


GPUS = {"GPU-a": "GPU-a", "GPU-b": "1"}
"""The values of CUDA_VISIBLE_DEVICES, by UUID."""


def test_a_spare_sees_the_gpu_of_its_pool_child_and_a_trainer_those_of_its_run(job: TrainJob, tmp_path: Path) -> None:
    trainers = WarmPool(SUCCEEDS, keep_spare=True)
    assert trainers.gpus is None
    trainers.use(GPUS, place=3)
    trainers.warm_up()
    try:
        assert trainers.gpus == ("GPU-b", "GPU-a")
        first = spare_of(trainers)
        assert first.environment["CUDA_VISIBLE_DEVICES"] == "1"
        own = trainers.start(job, tmp_path, 30, ["GPU-b"])
        assert own.pid == first.pid
        finish(own)
        spare = spare_of(trainers)
        other = trainers.start(job, tmp_path, 30, ["GPU-a", "GPU-b"])
        assert other.environment["CUDA_VISIBLE_DEVICES"] == "GPU-a,1"
        assert other.pid != spare.pid and gone(spare.pid)
        other.kill()
        trainers.lose("GPU-b")
        trainers.warm_up()
        assert trainers.gpus == ("GPU-a",)
        assert spare_of(trainers).environment["CUDA_VISIBLE_DEVICES"] == "GPU-a"
    finally:
        trainers.end()
