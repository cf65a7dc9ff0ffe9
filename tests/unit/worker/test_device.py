"""What a machine can train on, found without torch, and the same as torch finds."""

import sys
from pathlib import Path

import pytest
import torch

from worker import device
from worker.engine.environment import _processor, computes_in_bf16

INFO = (
    "processor : 0\nmodel name : Xeon\nflags : fpu {flags}\n\nprocessor : 1\nmodel name : Xeon\nflags : fpu {flags}\n"
)


@pytest.mark.parametrize(("flags", "bf16"), [("avx512f avx512_bf16 amx_bf16", True), ("avx512f avx512_bf16x", False)])
def test_a_processor_computes_in_bfloat16_if_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str, bf16: bool
) -> None:
    (tmp_path / "cpuinfo").write_text(INFO.format(flags=flags))
    monkeypatch.setattr(device, "CPU_INFO", tmp_path / "cpuinfo")
    found = device.find("cpu")
    assert (found.kind, found.bf16) == ("cpu", bf16)
    assert found.name.startswith("Xeon, ")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_this_machines_processor_is_named_and_judged_as_a_trainer_does() -> None:
    found = device.find("cpu")
    assert (found.name, found.bf16) == (_processor(), computes_in_bf16(torch.device("cpu")))


@pytest.mark.parametrize(("capability", "bf16"), [("7.5", False), ("8.0", True), ("12.0", True)])
def test_a_card_computes_in_bfloat16_from_ampere_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capability: str, bf16: bool
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\necho 'NVIDIA Thing, 80 GB, 81559, {capability}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = device.find("auto")
    assert (found.kind, found.name, found.memory_bytes, found.bf16) == (
        "cuda",
        "NVIDIA Thing, 80 GB",
        81559 << 20,
        bf16,
    )
