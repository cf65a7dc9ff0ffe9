"""What a device does in a second, measured."""

import time

import pytest
import torch

from worker.engine.device import rates
from worker.engine.device.rates import device_rates

CPU = torch.device("cpu")


def test_a_measurement_has_every_rate_and_leaves_the_seed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(rates._LARGE, "cpu", 64)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    found = device_rates(CPU, bf16=False)
    assert torch.equal(torch.rand(3), expected)
    assert found.peak and found.peak > 1e7 and set(found.by_width) == {64, 256, 1024}
    assert found.calls and found.calls > 100 and found.bytes and found.bytes > 1e7


def test_what_other_processes_take_of_the_processor_lowers_no_rate() -> None:
    def work() -> None:
        sum(range(100_000))
        time.sleep(0.05)  # without a processor

    assert rates._fastest(work, CPU) < 0.03
