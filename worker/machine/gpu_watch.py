"""Watches the GPUs of a worker: how much of their memory is free, and whether the driver still lists them."""

import threading
from collections.abc import Sequence

from app.domain.resources.devices import VisibleGpu
from worker.machine import nvidia
from worker.machine.device import Card

LOST = "The driver no longer lists it. Start the worker again once it is back."


class GpuWatch:
    """Inspects them in a thread of its own: a driver that hangs must not keep the worker's heartbeats waiting."""

    def __init__(self, cards: Sequence[Card]) -> None:
        self._cards = tuple(cards)
        self._lost: set[str] = set()
        self.latest: tuple[VisibleGpu, ...] = tuple(VisibleGpu(uuid=card.uuid) for card in cards)

    @property
    def all_lost(self) -> bool:
        """It had GPUs, and the driver has lost all of them."""
        return bool(self.latest) and all(gpu.problem for gpu in self.latest)

    def start(self, interval: float, stopping: threading.Event) -> None:
        """Inspect the GPUs now and at an interval in seconds, until the worker stops."""

        def watch() -> None:
            self.inspect()
            while not stopping.wait(interval):
                self.inspect()

        threading.Thread(target=watch, daemon=True, name="gpus").start()

    def inspect(self) -> None:
        """Ask the driver once. A GPU that was lost stays so: its processes would fail even if it came back."""
        memory = nvidia.memory()
        missing = [card.uuid for card in self._cards if card.uuid not in memory]
        self._lost.update(uuid for uuid in missing if uuid not in self._lost and nvidia.is_lost(uuid))
        self.latest = tuple(
            VisibleGpu(uuid=card.uuid, problem=LOST)
            if card.uuid in self._lost
            else VisibleGpu(uuid=card.uuid, free_bytes=memory[card.uuid].free if card.uuid in memory else None)
            for card in self._cards
        )
