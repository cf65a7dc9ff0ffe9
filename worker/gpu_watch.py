"""Looks at the GPUs of a worker while it runs: how much of their memory is free, and whether they are still there."""

import threading
from collections.abc import Sequence

from app.domain.resources.devices import VisibleGpu
from worker import nvidia
from worker.device import Card

LOST = "The driver no longer lists it. Start the worker again once it is back."


class GpuWatch:
    """Looks in a thread of its own: a driver that hangs must not keep the worker's heartbeats waiting."""

    def __init__(self, cards: Sequence[Card]) -> None:
        self._cards = tuple(cards)
        self._lost: set[str] = set()
        self.seen: tuple[VisibleGpu, ...] = tuple(VisibleGpu(uuid=card.uuid) for card in cards)
        """How the GPUs were when it last looked."""

    def start(self, interval: float, stopping: threading.Event) -> None:
        """Look now and at an interval in seconds, until the worker stops."""

        def watch() -> None:
            self.look()
            while not stopping.wait(interval):
                self.look()

        threading.Thread(target=watch, daemon=True, name="gpus").start()

    def look(self) -> None:
        """Look once. A GPU that was lost stays so: its processes would fail even if it came back."""
        memory = nvidia.memory()
        missing = [card.uuid for card in self._cards if card.uuid not in memory]
        self._lost.update(uuid for uuid in missing if uuid not in self._lost and nvidia.is_lost(uuid))
        self.seen = tuple(
            VisibleGpu(uuid=card.uuid, problem=LOST)
            if card.uuid in self._lost
            else VisibleGpu(uuid=card.uuid, free_bytes=memory[card.uuid].free if card.uuid in memory else None)
            for card in self._cards
        )
