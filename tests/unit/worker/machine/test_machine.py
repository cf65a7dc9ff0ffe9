"""The machine: its devices, how they are probed and watched, its disk and its name."""

import errno
import os
import signal
import socket
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn, Self

import pytest
import torch
from sqlalchemy.exc import OperationalError

from app.domain.errors import Unavailable
from app.domain.failures import FailureCode
from tests.support.fakes import gpus as fake_gpus
from worker.engine.device.environment import _processor, computes_in_bf16
from worker.machine import device, disk, naming, nvidia, probe
from worker.machine.device import Card, Probe
from worker.machine.gpu_watch import LOST, GpuWatch
from worker.training.outcome import failure_of

INFO = (
    "processor : 0\nmodel name : Xeon\nflags : fpu {flags}\n\nprocessor : 1\nmodel name : Xeon\nflags : fpu {flags}\n"
)


@pytest.mark.parametrize(("flags", "bf16"), [("avx512f avx512_bf16 amx_bf16", True), ("avx512f avx512_bf16x", False)])
def test_bfloat16_if_the_cpu_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str, bf16: bool) -> None:
    (tmp_path / "cpuinfo").write_text(INFO.format(flags=flags))
    monkeypatch.setattr(device, "CPU_INFO", tmp_path / "cpuinfo")
    found = device.find("cpu")
    assert (found.kind, found.bf16) == ("cpu", bf16)
    assert found.name.startswith("Xeon, ")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_this_machines_processor_is_named_and_judged_as_a_trainer_does() -> None:
    found = device.find("cpu")
    assert (found.name, found.bf16) == (_processor(), computes_in_bf16(torch.device("cpu")))


def answering(answer: str, status: int = 0) -> list[str]:
    """A probe with this answer."""
    program = f"import sys; sys.stdout.write({answer!r}); sys.stderr.write('Bus error'); sys.exit({status})"
    return [sys.executable, "-c", program]


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a GPU's driver."""
    monkeypatch.setattr(device, "GPU_SIGNS", ("/",))


def cards(*problems: str) -> str:
    """A probe's answer: a card for each problem, the working ones with an empty one."""
    found = [
        Card(uuid=f"u{i}", name=f"Card {i}", memory_bytes=10**10 + i, bf16=True, context_bytes=5, problem=problem)
        for i, problem in enumerate(problems)
    ]
    return Probe(cards=found).model_dump_json()


@pytest.mark.usefixtures("driver")
def test_every_card_that_works_is_used_and_another_is_named() -> None:
    found = device.find("auto", answering(cards("", "no kernel image is available", "")))
    assert (found.kind, [card.uuid for card in found.cards]) == ("cuda", ["u0", "u2"])
    assert (found.name, found.memory_bytes, found.context_bytes) == ("Card 0", 10**10, 5), "the smallest"
    assert found.problem == "A GPU does not work: Card 1: no kernel image is available."
    assert device.find("cpu").cards == ()


@pytest.mark.usefixtures("driver")
def test_a_worker_uses_no_more_cards_than_it_has_pool_children() -> None:
    probe = answering(cards("no kernel image is available", "", "", ""))
    assert [card.uuid for card in device.find("cuda", probe, most=2).cards] == ["u1", "u2"]
    assert len(device.find("cuda", probe, most=9).cards) == 3


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize(
    ("answer", "status", "reason"),
    [
        (cards("no kernel image is available"), 0, "Card 0: no kernel image is available"),
        (Probe(problem="the driver is too old").model_dump_json(), 0, "the driver is too old"),
        ("", 7, "the probe ended with status 7 (Bus error)"),
    ],
)
def test_a_gpu_that_does_not_work_is_named_or_refused(answer: str, status: int, reason: str) -> None:
    found = device.find("auto", answering(answer, status))
    assert found.kind == "cpu"
    assert found.problem == f"Runs use the CPU, because the GPU does not work: {reason}."
    with pytest.raises(Unavailable, match="VEZNA_DEVICE is cuda, but no GPU can be used") as refused:
        device.find("cuda", answering(answer, status))
    assert reason in refused.value.message and "set VEZNA_DEVICE=cpu" in refused.value.message


@pytest.mark.usefixtures("driver")
def test_a_driver_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "PROBE_SECONDS", 0.2)
    found = device.find("auto", ["sleep", "60"])
    assert (found.kind, "did not answer" in found.problem) == ("cpu", True)


def test_a_machine_without_a_driver_is_not_probed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "GPU_SIGNS", ())
    monkeypatch.setenv("PATH", "")
    found = device.find("auto", ["/does/not/exist"])
    assert (found.kind, found.problem) == ("cpu", "")


def test_apples_gpu_is_refused_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "GPU_SIGNS", ())
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    assert device.find("auto").problem == "Runs use the CPU: Vezna does not support Apple's GPU (MPS)."


NVIDIA, SLICE = "NVIDIA L4", "NVIDIA A100-SXM4-80GB MIG 3g.40gb"


def give_cards(monkeypatch: pytest.MonkeyPatch, failing: str = "", *, name: str = NVIDIA, number: int = 1) -> None:
    """Let torch see cards of this name; `failing` is the error of their kernels."""

    ones = torch.ones

    def multiply(*_: object) -> torch.Tensor:
        if failing:
            raise RuntimeError(failing)
        return ones(1)

    def facts(index: int) -> SimpleNamespace:
        return SimpleNamespace(uuid="11-22" if index == 0 else "33-44", name=name, total_memory=80 * 2**30)

    cuda = SimpleNamespace(
        is_available=lambda: True,
        device_count=lambda: number,
        get_device_properties=facts,
        device=lambda index: nullcontext(),
        is_bf16_supported=lambda including_emulation: True,
        mem_get_info=lambda index: (39 * 2**30, 40 * 2**30),
        memory_reserved=lambda index: 2 * nvidia.MIB,
    )
    monkeypatch.setattr(probe.torch, "cuda", cuda)
    monkeypatch.setattr(probe.torch, "ones", lambda *size, device: ones(*size))
    monkeypatch.setattr(probe.torch, "mm", multiply)


def test_a_cards_memory_and_context_are_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    give_cards(monkeypatch)
    used = tmp_path / "used"
    used.write_text("100")
    program = tmp_path / "nvidia-smi"
    program.write_text(f'#!/bin/sh\nread n < {used}\necho "GPU-11-22, $n, 7"\necho 502 > {used}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    [card] = probe.probe().cards
    assert (card.memory_bytes, card.context_bytes) == (40 * 2**30, 400 * nvidia.MIB)
    assert (card.uuid, card.bf16, card.problem) == ("GPU-11-22", True, "")


def test_a_card_is_visible_by_its_uuid_and_on_rocm_by_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    give_cards(monkeypatch, number=2)
    assert [card.visible for card in probe.probe().cards] == ["GPU-11-22", "GPU-33-44"]
    monkeypatch.setattr(torch.version, "hip", "6.4")
    assert [card.visible for card in probe.probe().cards] == ["2", "3"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert [(card.uuid, card.visible) for card in probe.probe().cards] == [("GPU-11-22", "0"), ("GPU-33-44", "1")]


def test_a_mig_slice_has_the_uuid_of_the_slice_not_of_its_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    give_cards(monkeypatch, name=SLICE)
    program = tmp_path / "nvidia-smi"
    lines = "GPU 0: NVIDIA A100 (UUID: GPU-11-22)\n  MIG 3g.40gb Device 0: (UUID: MIG-aa-bb)"
    program.write_text(f'#!/bin/sh\n[ "$1" = --list-gpus ] && printf "%s\n" "{lines}"\nexit 0\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    [card] = probe.probe().cards
    assert (card.uuid, card.visible) == ("MIG-aa-bb", "MIG-aa-bb")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-cc-dd")
    assert [card.uuid for card in probe.probe().cards] == ["MIG-cc-dd"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setenv("PATH", "")
    [card] = probe.probe().cards
    assert (card.uuid, card.visible) == ("MIG-11-22", "0")


def test_without_nvidia_smi_the_context_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    give_cards(monkeypatch)
    monkeypatch.setenv("PATH", "")
    [card] = probe.probe().cards
    assert (card.context_bytes, card.problem) == (None, "")


def test_a_card_without_kernels_is_listed_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    give_cards(monkeypatch, "CUDA error: no kernel image is available for execution on the device\nCompile with …")
    monkeypatch.setenv("PATH", "")
    found = probe.probe()
    assert found.working == []
    assert "no kernel image is available for execution on the device (" in found.complaint


@pytest.mark.skipif(torch.version.cuda is not None, reason="this torch is built for CUDA")
def test_a_build_for_the_cpu_says_so() -> None:
    assert "is built for the CPU; install the build for your GPU" in probe.probe().problem


@pytest.mark.parametrize(("cuda", "hip", "needs"), [("12.8", None, "CUDA 12.8"), (None, "6.4", "ROCm 6.4")])
def test_a_driver_that_torch_cannot_use_is_named(
    monkeypatch: pytest.MonkeyPatch, cuda: str | None, hip: str | None, needs: str
) -> None:
    def init() -> None:
        raise RuntimeError("The NVIDIA driver on your system is too old (found version 11040). Please update")

    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.version, "hip", hip)
    monkeypatch.setattr(torch.cuda, "init", init)
    problem = probe.probe().problem
    assert problem.startswith("The NVIDIA driver on your system is too old (found version 11040)") and needs in problem


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


def test_a_gpu_that_fell_off_the_bus_has_a_problem(watch: GpuWatch, tmp_path: Path) -> None:
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


def test_a_process_stuck_in_the_driver_is_abandoned(watch: GpuWatch, monkeypatch: pytest.MonkeyPatch) -> None:
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


def no_space(*names: str | None) -> OSError:
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    error.filename, error.filename2 = (*names, None, None)[:2]
    return error


def test_a_copy_that_does_not_fit_names_the_disk_of_its_target(tmp_path: Path) -> None:
    assert disk.place(no_space("/source/a", "/target/a"), tmp_path) == Path("/target/a")
    assert disk.place(no_space("/target/a"), tmp_path) == Path("/target/a")
    assert disk.place(no_space(), tmp_path) == tmp_path


def test_a_full_disk_in_the_supervisor_is_that_of_the_attempt(tmp_path: Path) -> None:
    failure = failure_of(no_space(), tmp_path)
    assert failure.code is FailureCode.DISK_FULL
    assert failure.message.startswith(f"The worker's disk with {tmp_path} is full: ")
    assert failure.message.endswith(" are free. Free some space there, then submit the run again.")


def test_an_error_of_the_database_is_about_another_disk() -> None:
    error = OperationalError("INSERT", {"message": "No space left on device"}, Exception("the connection is lost"))
    assert "No space left" in str(error) and not disk.is_full(error)


HOST = socket.gethostname()
RESERVE = (
    "import os, sys; from worker.machine import naming; "
    "print(naming.reserve(sys.argv[1]), flush=True); sys.stdin.read()"
)


def start(folder: Path, database: str = "sqlite://") -> tuple[subprocess.Popen[str], str]:
    """A process that reserves a name, and the name."""
    environment = os.environ | {"TMPDIR": str(folder)}
    command = [sys.executable, "-c", RESERVE, database]
    process = subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def test_workers_of_one_host_and_database_have_different_names(tmp_path: Path) -> None:
    started = [start(tmp_path), start(tmp_path), start(tmp_path, "postgresql://other")]
    try:
        assert [name for _process, name in started] == [HOST, f"{HOST}-2", HOST]
        first = started[0][0]
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        started.append(start(tmp_path))
        assert started[-1][1] == HOST
    finally:
        for process, _name in started:
            process.kill()
            process.communicate()


def test_without_a_directory_for_locks_the_name_is_the_hosts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "missing"))
    assert naming.reserve("sqlite://") == naming.name() == HOST
