"""What a device does in a second, measured."""

import pytest
import torch

from worker.engine import rates
from worker.engine.rates import device_rates

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


def test_a_repetition_that_waited_for_a_processor_is_repeated_for_a_tenth_of_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = waited = 0.0
    took = [0.01, 0.03, 0.02, 0.01, 0.02, 0.02, 0.02, 0.02, 0.02, 0.02, 0.02, 0.02]

    def work(busy: bool) -> None:
        nonlocal now, waited
        now += took.pop(0)
        waited += 0.005 if busy else 0.0

    monkeypatch.setattr(rates.time, "perf_counter", lambda: now)
    monkeypatch.setattr(rates, "waited_for_processor", lambda: waited)
    assert rates._fastest(lambda: work(busy=False), CPU) == pytest.approx(0.01)
    assert len(took) == 12 - 6
    took[:] = [0.024] * 12
    assert rates._fastest(lambda: work(busy=True), CPU) == pytest.approx(0.024)
    assert len(took) == 12 - 6, "the first warms up, and five take a tenth of a second"
    took[:] = [0.3] * 4
    assert rates._fastest(lambda: work(busy=True), CPU) == pytest.approx(0.3)
    assert len(took) == 4 - 2
