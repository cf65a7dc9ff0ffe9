"""Fakes: small, without I/O."""

from dataclasses import dataclass, field
from typing import Any

from app.queue import Doorbell


@dataclass
class SilentBell(Doorbell):
    """A doorbell that nobody hears; it remembers what it was rung for."""

    rung: list[tuple[Any, ...]] = field(default_factory=list)
    there: bool = True

    def ring(self, task: str, *args: Any) -> bool:
        """Remember."""
        self.rung.append((task, *args))
        return self.there

    def answers(self) -> bool:
        """As told."""
        return self.there
