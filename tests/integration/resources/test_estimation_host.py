"""The process that predicts, seen by its worker: whatever it does, there is a sentence, and the next one is fresh."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from app.domain.methods import FullSpec, LoraSpec
from app.domain.resources.estimate import MapRequest, MemoryMap, ResourceEstimate
from app.settings import ROOT
from app.store.files.files import Files
from tests.support.fakes.estimation import FIRST_PROCESSOR
from tests.support.rows.estimates import request
from worker.estimation.host import Estimator, NoAnswer

FAKE = ROOT / "tests/support/fakes/estimation.py"
MAP = MapRequest(
    location="/nowhere",
    task="sequence-classification",
    methods=(FullSpec(), LoraSpec()),
    lengths=(8, 16),
    batch_sizes=(1, 2),
    device="cpu",
    bf16=False,
)
Make = Callable[..., Estimator]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Makes estimators whose process behaves as named."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    made: list[Estimator] = []

    def new(manner: str, seconds: float = 20.0, start: float = 0.0) -> Estimator:
        command = (sys.executable, str(FAKE), manner)
        made.append(Estimator(command, estimate_seconds=seconds, long_seconds=seconds, start_seconds=start))
        return made[-1]

    yield new
    for estimator in made:
        estimator.end()


def answering_process(estimator: Estimator, files: Files) -> int:
    found = estimator.estimate(request(), files)
    assert isinstance(found, ResourceEstimate)
    return found.step_flops


def test_one_process_answers_one_request_after_the_other(make: Make, files: Files) -> None:
    estimator = make("good")
    first = answering_process(estimator, files)
    assert answering_process(estimator, files) == first == estimator.pid
    assert isinstance(estimator.estimate(MAP, files), MemoryMap)


@pytest.mark.by_day
@pytest.mark.slow
@pytest.mark.parametrize(
    ("manner", "says"),
    [
        ("stuck", r"took longer than \d+ s"),
        ("dying", "ended with status 3"),
        ("lying", "cannot be read"),
        ("off-topic", "another question"),
        ("endless", "answer that is too long"),
    ],
)
def test_one_that_misbehaves_is_ended_and_replaced(make: Make, files: Files, manner: str, says: str) -> None:
    estimator = make(manner, seconds=2.0 if manner == "stuck" else 20.0)
    for _ in range(2):
        with pytest.raises(NoAnswer, match=says) as error:
            estimator.estimate(request(), files)
        assert error.value.internal
        assert estimator.pid is None
    assert [c for c in psutil.Process().children(recursive=True) if str(FAKE) in c.cmdline()] == []


@pytest.mark.slow
def test_one_that_does_not_read_a_long_request_does_not_hold_its_worker_up(make: Make, files: Files) -> None:
    long = request(config={"model_type": "bert", "padding": "x" * (1 << 19)})
    with pytest.raises(NoAnswer, match="took longer"):
        make("deaf", seconds=1.0).estimate(long, files)


def test_a_sentence_is_passed_on_and_the_process_kept(make: Make, files: Files) -> None:
    estimator = make("sorry")
    with pytest.raises(NoAnswer, match=r"^This architecture is not known\.$") as error:
        estimator.estimate(request(), files)
    assert not error.value.internal
    kept = estimator.pid
    with pytest.raises(NoAnswer):
        estimator.estimate(request(), files)
    assert kept is not None and estimator.pid == kept


@pytest.mark.slow
def test_one_that_has_ended_or_speaks_unasked_is_replaced_before_the_next_request(make: Make, files: Files) -> None:
    for manner in ("tired", "talkative"):
        estimator = make(manner)
        first = answering_process(estimator, files)
        until(lambda: estimator.pid is None)  # noqa: B023
        assert answering_process(estimator, files) != first


def test_a_fresh_process_has_more_time(make: Make, files: Files) -> None:
    estimator = make("lazy", seconds=0.1, start=20.0)
    assert answering_process(estimator, files) == estimator.pid
    with pytest.raises(NoAnswer, match="took longer"):
        estimator.estimate(request(), files)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says how long a process has waited for a processor")
def test_one_that_has_to_wait_for_a_processor_has_more_time(make: Make, files: Files) -> None:
    estimator, beats = make("busy", seconds=1.5), []
    burn = "import os, sys; os.sched_setaffinity(0, {int(sys.argv[1])}); print(flush=True)\nwhile True: pass"
    [processor] = FIRST_PROCESSOR
    others = [
        subprocess.Popen([sys.executable, "-c", burn, str(processor)], stdout=subprocess.PIPE, start_new_session=True)
        for _other in range(3)
    ]
    try:
        for other in others:
            assert other.stdout and other.stdout.readline()
        began = time.monotonic()
        estimator.estimate(request(), files, heartbeat=lambda: beats.append(1))
        assert time.monotonic() - began > 1.5 and beats, "it took longer than it may on an idle machine"
    finally:
        for other in others:
            other.kill()
            other.wait()


def test_it_gets_the_rows_of_the_dataset_as_a_local_file(make: Make, files: Files, tmp_path: Path) -> None:
    (tmp_path / "rows").write_text("rows")
    files.put(tmp_path / "rows", "datasets/abc.parquet")
    estimator = make("good")
    assert estimator.estimate(request(dataset_file="datasets/abc.parquet"), files)
    with pytest.raises(NoAnswer, match="no longer in the store"):
        estimator.estimate(request(dataset_file="datasets/gone.parquet"), files)
    assert estimator.pid is not None


def test_a_program_that_cannot_be_started_is_a_sentence(files: Files) -> None:
    with pytest.raises(NoAnswer, match="could not be started"):
        Estimator(("/nowhere/python",)).estimate(request(), files)


@pytest.mark.slow
def test_it_dies_with_its_worker() -> None:
    code = (
        "import sys, time; from worker.children.host import Child; from worker.estimation.host import COMMAND;"
        "p = Child('estimation', COMMAND); print(p.pid, flush=True); time.sleep(60)"
    )

    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT) as worker:
        assert worker.stdout is not None
        child = psutil.Process(int(worker.stdout.readline()))
        until(lambda: child.nice() > psutil.Process().nice())  # it has come as far as asking to die too
        worker.kill()
        until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


def until(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for it."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)
