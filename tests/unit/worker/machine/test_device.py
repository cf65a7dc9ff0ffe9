"""What a machine can train on, found without torch, and the same as torch finds."""

import sys
from pathlib import Path

import pytest
import torch

from app.domain.errors import Unavailable
from worker.engine.device.environment import _processor, computes_in_bf16
from worker.machine import device
from worker.machine.device import Card, Probe

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
