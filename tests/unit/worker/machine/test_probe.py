"""What torch says of the GPUs of a machine, and why it sees none."""

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from worker.machine import nvidia, probe

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


def test_a_cards_memory_is_what_the_driver_gives_and_its_context_is_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
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
