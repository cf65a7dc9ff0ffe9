"""A worker sees how much memory of its GPUs is free, and when one of them disappears."""

import subprocess
from pathlib import Path
from typing import Any, NoReturn, Self

import pytest

from tests.support.fakes import gpus as fake_gpus
from worker.machine import nvidia
from worker.machine.device import Card
from worker.machine.gpu_watch import LOST, GpuWatch

A, B = "GPU-0a", "GPU-0b"
FREE = fake_gpus.FREE_MIB * nvidia.MIB


@pytest.fixture
def watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GpuWatch:
    """It watches two GPUs, which are there, and a MIG slice."""
    for name, value in fake_gpus.install(tmp_path, A, B).items():
        monkeypatch.setenv(name, value)
    return GpuWatch([Card(uuid=uuid, name="NVIDIA L4", memory_bytes=1, bf16=True) for uuid in (A, B, "MIG-1")])


def seen(watch: GpuWatch) -> list[tuple[int | None, str]]:
    return [(gpu.free_bytes, gpu.problem) for gpu in watch.latest]


def test_the_free_memory_of_a_gpu_is_what_its_driver_says(watch: GpuWatch) -> None:
    assert seen(watch) == [(None, "")] * 3
    watch.inspect()
    assert seen(watch) == [(FREE, ""), (FREE, ""), (None, "")]


def test_a_gpu_that_fell_off_the_bus_has_a_problem_though_nvidia_smi_lists_no_gpu_then(
    watch: GpuWatch, tmp_path: Path
) -> None:
    fake_gpus.lose(B, tmp_path)
    assert nvidia.memory() == {}
    watch.inspect()
    assert seen(watch) == [(None, ""), (None, LOST), (None, "")]
    (tmp_path / "gpus" / f"{B}.lost").rename(tmp_path / "gpus" / B)
    watch.inspect()
    assert seen(watch) == [(FREE, ""), (None, LOST), (None, "")], "the worker has to start again"


def test_a_gpu_that_was_removed_has_a_problem(watch: GpuWatch, tmp_path: Path) -> None:
    (tmp_path / "gpus" / A).unlink()
    watch.inspect()
    assert seen(watch) == [(None, LOST), (FREE, ""), (None, "")]


@pytest.mark.parametrize("script", ["exit 9", "sleep 60", "echo ', ,'; exit 0", "kill -9 $$"])
def test_a_driver_that_does_not_answer_proves_nothing(
    watch: GpuWatch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    monkeypatch.setattr(nvidia, "SECONDS", 0.3)
    (tmp_path / "bin" / "nvidia-smi").write_text(f"#!/bin/sh\n{script.replace('sleep', 'exec sleep')}\n")
    watch.inspect()
    assert seen(watch) == [(None, "")] * 3


class Hung:
    """A process that is stuck in the driver: it does not end when it is killed, and to wait for it takes for ever."""

    def __init__(self, *_arguments: Any, **_named: Any) -> None:
        self.killed = self.gone = False
        HUNG.append(self)

    def communicate(self, timeout: float | None = None) -> NoReturn:
        assert timeout is not None, "waits for ever"
        raise subprocess.TimeoutExpired("nvidia-smi", timeout)

    def wait(self, timeout: float | None = None) -> NoReturn:
        self.communicate(timeout)

    def kill(self) -> None:
        self.killed = True

    def poll(self) -> int | None:
        return -9 if self.gone else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()


HUNG: list[Hung] = []


def test_a_process_that_is_stuck_in_the_driver_is_abandoned_and_no_second_one_is_started(
    watch: GpuWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nvidia, "_abandoned", [])
    HUNG.clear()
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", Hung)
        assert not nvidia.is_lost(A)
        watch.inspect()
    watch.inspect()
    assert [process.killed for process in HUNG] == [True]
    assert seen(watch) == [(None, "")] * 3
    HUNG[0].gone = True
    watch.inspect()
    assert seen(watch) == [(FREE, ""), (FREE, ""), (None, "")]


def test_a_worker_has_lost_all_of_its_gpus_with_the_last_one(watch: GpuWatch, tmp_path: Path) -> None:
    assert not GpuWatch([]).all_lost
    watch = GpuWatch([Card(uuid=uuid, name="NVIDIA L4", memory_bytes=1, bf16=True) for uuid in (A, B)])
    states = [watch.all_lost]
    for uuid in (A, B):
        fake_gpus.lose(uuid, tmp_path)
        watch.inspect()
        states.append(watch.all_lost)
    assert states == [False, False, True]


def test_a_machine_without_nvidia_smi_knows_nothing(watch: GpuWatch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    watch.inspect()
    assert seen(watch) == [(None, "")] * 3
    assert (nvidia.mig_slices(), nvidia.is_lost(A)) == ([], False)
