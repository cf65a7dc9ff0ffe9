"""Energy by NVML's counter, with a fake NVML: no device here has one."""

from collections.abc import Iterator

import pytest
import torch

from worker.engine.device import energy
from worker.engine.device.energy import EnergyMeter

CARD = torch.device("cuda:0")


class FakeNvml:
    """A card with a counter, in millijoules; without one where `counts` is empty."""

    class NVMLError(Exception):
        """What the library raises for everything."""

    def __init__(self, counts: list[int], known: str = "GPU-5f1e") -> None:
        self.counts = iter(counts)
        self.known = known

    def nvmlInit(self) -> None:
        """Nothing to do."""

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        """The card, by its name."""
        if uuid != self.known:
            raise self.NVMLError("not found")
        return "the card"

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:
        """The next count."""
        assert handle == "the card"
        try:
            return next(self.counts)
        except StopIteration:
            raise self.NVMLError("not supported") from None


@pytest.fixture(autouse=True)
def uuid(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """torch's name of the card."""
    monkeypatch.setattr(energy, "_uuid", lambda device: "5f1e")
    yield


def test_what_was_drawn_is_the_difference_of_two_counts_in_joules() -> None:
    meter = EnergyMeter(CARD, FakeNvml([5_000, 12_500]))
    assert meter.joules() == pytest.approx(7.5)


@pytest.mark.parametrize(
    ("device", "nvml"),
    [
        (torch.device("cpu"), FakeNvml([1, 2])),
        (CARD, None),
        (CARD, FakeNvml([])),
        (CARD, FakeNvml([1, 2], known="GPU-another")),
        (CARD, FakeNvml([9_000, 10])),
    ],
    ids=["a CPU", "no library", "no counter", "not to be found", "counted anew"],
)
def test_where_nothing_counts_nothing_is_said(device: torch.device, nvml: FakeNvml | None) -> None:
    meter = EnergyMeter(device, nvml)
    assert meter.joules() is None
