"""Peaks of memory by phase, on this process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from app.domain.failures import RunFailed
from app.domain.methods import FullSpec, HeadOnlySpec
from tests.support.fakes.cuda import FakeCuda
from tests.support.tiny import texts as tiny
from worker.children.environment import ML_ENVIRONMENT
from worker.engine.device.environment import choose_device
from worker.engine.loop.attempt import Attempt
from worker.engine.memory import allocator
from worker.engine.memory.measured import MemoryMeter, resident_bytes, tensor_bytes

MIB = 2**20
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


@linux
def test_a_peak_belongs_to_the_phase_in_which_it_was() -> None:
    meter = MemoryMeter(torch.device("cpu"))
    meter.enter("load")
    block = torch.ones(64 * MIB // 4)
    del block
    meter.enter("train")
    meter.enter("save")
    peaks = meter.read(torch.nn.Linear(2, 2), 0, []).phase_peak_bytes
    assert 60 * MIB < peaks["load"] < 80 * MIB
    assert peaks["train"] < 20 * MIB


@linux
def test_resident_memory_follows_live_tensors() -> None:
    before = resident_bytes()
    block = torch.ones(64 * MIB // 4)
    assert resident_bytes() - before > 60 * MIB
    del block
    assert resident_bytes() - before < 20 * MIB


def test_a_tensor_counts_once() -> None:
    weight = torch.zeros(10)
    assert tensor_bytes([weight, weight, torch.zeros(2, dtype=torch.float64)]) == 56


@pytest.mark.slow
def test_computed_bytes_are_of_weights_and_adam(base: Path, tmp_path: Path, recorder: tiny.Recorder) -> None:
    full = Attempt(tiny.job(tmp_path / "full", base, FullSpec()), recorder).run()
    head = Attempt(tiny.job(tmp_path / "head", base, HeadOnlySpec()), recorder).run()
    steps = 4  # AdamW counts its steps in a float32 scalar beside each tensor
    assert full.memory.gradients_bytes == 4 * full.parameters.trainable
    assert full.memory.optimizer_bytes == 8 * full.parameters.trainable + steps * 41
    assert head.memory.gradients_bytes == 4 * 99
    assert head.memory.optimizer_bytes == 8 * 99 + steps * 2
    for memory in (full.memory, head.memory):
        assert memory.weights_bytes >= 4 * full.parameters.total
        assert memory.peak_bytes == max(memory.phase_peak_bytes.values())
        assert memory.train_peak_bytes == memory.phase_peak_bytes["train"]


@pytest.mark.nightly
@pytest.mark.skipif(not allocator.ADJUSTABLE, reason="the allocator cannot be told how to behave")
def test_what_is_not_measured_leaves_no_peak_and_no_free_blocks_in_the_numbers() -> None:
    """In a process of its own: allocators remember."""
    program = """
import torch
from worker.engine.memory.measured import MemoryMeter

MIB = 2**20
meter = MemoryMeter(torch.device("cpu"))
meter.enter("train")
kept = torch.zeros(20 * MIB, dtype=torch.uint8)
meter.exact(False)
for _ in range(3):
    blocks = [torch.zeros(MIB, dtype=torch.uint8) for _ in range(200)]
    del blocks
assert 15 * MIB < meter.used() < 40 * MIB, meter.used()  # 200 MiB are free in the heap
meter.exact(True)
more = torch.zeros(50 * MIB, dtype=torch.uint8)
del more
meter.enter("save")
peak = meter.peaks()["train"]
assert 60 * MIB < peak < 95 * MIB, peak
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | ML_ENVIRONMENT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_the_counters_of_cuda_are_ready_once_the_device_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeCuda().install(monkeypatch)
    with pytest.raises(RuntimeError, match="did you call init"):
        MemoryMeter(torch.device("cuda:0"))
    meter = MemoryMeter(choose_device("auto"))
    assert meter.peak() == 0


def test_each_phase_has_its_own_allocated_and_reserved_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = FakeCuda().install(monkeypatch)
    meter = MemoryMeter(choose_device("cuda"))
    cuda.allocate(100 * MIB)
    cuda.free(60 * MIB)
    meter.enter("train")
    cuda.allocate(10 * MIB)
    memory = meter.read(torch.nn.Linear(2, 2), 0, [])
    assert memory.phase_peak_bytes == {"load": 100 * MIB, "train": 50 * MIB}
    assert memory.phase_reserved_bytes == {"load": 100 * MIB, "train": 50 * MIB}
    assert memory.reserved_bytes == 100 * MIB


def test_a_device_that_cannot_be_initialized_is_a_failure_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeCuda("CUDA unknown error - this may be due to an incorrectly set up environment.\nMore").install(monkeypatch)
    with pytest.raises(RunFailed) as failed:
        choose_device("auto")
    assert "cannot be used (CUDA unknown error - this may be due to an incorrectly set up" in failed.value.message
