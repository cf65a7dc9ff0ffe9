"""The clocks: which seconds are of training, which of measuring, and how often the host waits for the device."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from app.domain.methods import FullSpec
from app.domain.runs.clocks import Clocks
from app.domain.runs.result import RunResult
from tests.support.fakes.cuda import FakeCuda
from tests.support.tiny import texts as tiny
from worker.engine.data.batches.batches import Batch
from worker.engine.loop import step
from worker.engine.loop.attempt import Attempt
from worker.engine.loop.clocks import ClockName, Lap, Stopwatch
from worker.engine.tasks import TaskFile

CUDA = torch.device("cuda:0")


class Host:
    """The host's clock, which runs with the device's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cuda = FakeCuda().install(monkeypatch)
        monkeypatch.setattr(time, "perf_counter", lambda: self.cuda.seconds)

    def work(self, stopwatch: Stopwatch, clock: ClockName, seconds: float) -> None:
        """Keep the device busy on a clock."""
        stopwatch.enter(clock)
        self.cuda.seconds += seconds

    def step(self, stopwatch: Stopwatch, *, scale: float = 1.0) -> Lap:
        """A step of two batches."""
        for _batch in range(2):
            self.work(stopwatch, "data", 1 * scale)
            self.work(stopwatch, "forward", 2 * scale)
            self.work(stopwatch, "backward", 4 * scale)
        self.work(stopwatch, "optimizer", 3 * scale)
        stopwatch.enter("data")
        return stopwatch.lap()


def test_a_step_on_cuda_waits_for_nothing_and_its_clocks_are_the_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(monkeypatch)
    stopwatch = Stopwatch(time.time(), CUDA)
    host.work(stopwatch, "load", 5)
    stopwatch.enter("data")
    before = host.cuda.synchronized
    laps = [host.step(stopwatch) for _step in range(10)]
    assert host.cuda.synchronized == before and [lap.seconds for lap in laps] == [0.0] * 10
    stopwatch.settle()
    assert host.cuda.synchronized == before + 1
    assert [lap.seconds for lap in laps] == pytest.approx([17.0 * step for step in range(1, 11)])
    clocks = stopwatch.read()
    assert (clocks.forward, clocks.backward, clocks.optimizer, clocks.data) == pytest.approx((40, 80, 30, 20))
    assert clocks.accounted - clocks.start == pytest.approx(175) and clocks.load == pytest.approx(5)


@pytest.mark.parametrize("device", [CUDA, torch.device("cpu")], ids=["cuda", "cpu"])
def test_measured_steps_count_as_fast_as_others(monkeypatch: pytest.MonkeyPatch, device: torch.device) -> None:
    host = Host(monkeypatch)
    stopwatch = Stopwatch(time.time(), device)
    stopwatch.enter("data")
    stopwatch.aside(True)
    slow = host.step(stopwatch, scale=10)
    stopwatch.aside(False)
    laps = [host.step(stopwatch) for _step in range(4)]
    clocks = stopwatch.read(steady_share=0.8)
    assert clocks.ledger == pytest.approx(170) and clocks.forward == pytest.approx(16)
    assert clocks.train == pytest.approx(5 * 17) and clocks.ledger_steady == pytest.approx(17)
    assert [lap.seconds for lap in (slow, *laps)] == pytest.approx([170, 187, 204, 221, 238])
    assert clocks.accounted - clocks.start == pytest.approx(170 + 4 * 17)


def test_a_run_of_measured_steps_alone_has_their_train_time(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(monkeypatch)
    stopwatch = Stopwatch(time.time(), CUDA)
    stopwatch.enter("data")
    stopwatch.aside(True)
    host.step(stopwatch)
    clocks = stopwatch.read(steady_share=0.0)
    assert clocks.train == pytest.approx(17) and (clocks.ledger, clocks.ledger_steady) == (0, 0)


def test_seconds_of_an_earlier_attempt_stay_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(monkeypatch)
    first, second = Stopwatch(time.time(), CUDA), Stopwatch(time.time(), CUDA)
    for stopwatch in (first, second):
        stopwatch.enter("data")
        stopwatch.aside(True)
        host.step(stopwatch, scale=2)
        stopwatch.aside(False)
        host.step(stopwatch)
    alone = first.read(0.5)
    second.carry(first.of_training())
    both = second.read(0.5)
    assert both.ledger >= 2 * 34 - 1e-9 and both.forward >= 2 * alone.forward - 1e-9
    assert both.accounted - both.start == pytest.approx(both.wall - both.start)


def test_what_other_processes_took_of_the_train_time_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    host, waited = Host(monkeypatch), [100.0]
    stopwatch = Stopwatch(time.time(), torch.device("cpu"), waited=lambda: waited[0])
    waited[0] += 50.0  # while the model was loaded
    stopwatch.enter("data")
    stopwatch.aside(True)
    waited[0] += 7.0
    host.step(stopwatch)
    stopwatch.aside(False)
    host.step(stopwatch)
    waited[0] += 3.0
    assert stopwatch.waiting == pytest.approx(3.0)
    stopwatch.enter("evaluate")
    waited[0] += 9.0
    stopwatch.enter("data")
    waited[0] += 1.0
    assert stopwatch.read(steady_share=0.5).waiting == pytest.approx(2 * 4.0), "of the whole train clock"
    later = Stopwatch(time.time(), torch.device("cpu"), waited=lambda: 0.0)
    later.carry(stopwatch.of_training())
    assert later.waiting == pytest.approx(4.0)


def run(folder: Path, **training: object) -> RunResult:
    """A tiny run."""
    job = tiny.job(folder, tiny.save_model(folder / "model"), FullSpec(), tiny.FAST.model_copy(update=training))
    return Attempt(job, tiny.Recorder()).run()


@pytest.mark.slow
def test_a_run_leaves_its_measured_steps_out_of_its_speed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time passes in forward passes alone: a millisecond a token, ten in the steps that are measured."""
    now, measured, aside, is_aside = 0.0, list[bool](), Stopwatch.aside, False

    def switched(stopwatch: Stopwatch, to: bool) -> None:
        nonlocal is_aside
        is_aside = to
        aside(stopwatch, to)

    def forward_and_back(task: TaskFile, model: nn.Module, batch: Batch, *rest: Any) -> torch.Tensor:
        nonlocal now
        loss = step.forward_and_back(task, model, batch, *rest)
        measured.append(is_aside)
        now += batch.tokens * (0.01 if is_aside else 0.001)
        return loss

    monkeypatch.setattr(Stopwatch, "aside", switched)
    monkeypatch.setattr("worker.engine.loop.attempt.forward_and_back", forward_and_back)
    monkeypatch.setattr("worker.engine.loop.clocks.time", SimpleNamespace(time=time.time, perf_counter=lambda: now))
    job = tiny.job(tmp_path, tiny.save_model(tmp_path / "model"), FullSpec())
    recorder = tiny.Recorder()
    result = Attempt(job, recorder).run()

    seconds = np.diff([0.0, *(s.seconds for s in recorder.seen)])
    tokens = np.diff([0, *(s.tokens for s in recorder.seen)])
    steady = ~np.array(measured)
    assert 2 <= (~steady).sum() < steady.sum() and not steady[0]
    assert seconds == pytest.approx(tokens * np.where(steady, 0.001, 0.01))
    assert result.clocks.ledger == pytest.approx(seconds[~steady].sum())
    assert result.clocks.train == pytest.approx(result.tokens * seconds[steady].sum() / tokens[steady].sum())
    assert result.tokens == tokens.sum()


def test_short_runs_and_old_clocks_have_a_train_time(tmp_path: Path) -> None:
    clocks = run(tmp_path, max_steps=1).clocks
    assert clocks.train > 0 and clocks.ledger == 0
    clocks = Clocks.model_validate({"forward": 1.0, "backward": 2.0, "optimizer": 0.5, "data": 0.5, "wall": 5.0})
    assert clocks.train == 4.0
