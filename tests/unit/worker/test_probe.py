"""What torch says of the GPUs of a machine, and why it sees none."""

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from worker import probe


def give_cards(monkeypatch: pytest.MonkeyPatch, failing: str = "") -> None:
    """Let torch see one card; `failing` is the error of its kernels."""

    ones = torch.ones

    def multiply(*_: object) -> torch.Tensor:
        if failing:
            raise RuntimeError(failing)
        return ones(1)

    facts = SimpleNamespace(uuid="11-22", name="NVIDIA A100-SXM4-80GB MIG 3g.40gb", total_memory=80 * 2**30)
    cuda = SimpleNamespace(
        is_available=lambda: True,
        device_count=lambda: 1,
        get_device_properties=lambda index: facts,
        device=lambda index: nullcontext(),
        is_bf16_supported=lambda including_emulation: True,
        mem_get_info=lambda index: (39 * 2**30, 40 * 2**30),
        memory_reserved=lambda index: 2 * probe.MIB,
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
    program.write_text(f'#!/bin/sh\nread n < {used}\necho "GPU-11-22, $n"\necho 502 > {used}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    [card] = probe.probe().cards
    assert (card.memory_bytes, card.context_bytes) == (40 * 2**30, 400 * probe.MIB)
    assert (card.uuid, card.bf16, card.problem) == ("11-22", True, "")


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
