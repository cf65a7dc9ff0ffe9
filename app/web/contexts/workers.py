"""The context of the workers' page."""

from dataclasses import dataclass

from app.domain.methods import METHODS
from app.services.workers import WorkerView
from app.web.contexts.runs import RunLine


@dataclass(frozen=True)
class WorkersPage:
    """Who works, and what waits."""

    workers: tuple[WorkerView, ...]
    running: dict[int, RunLine]
    """What the workers are at, by run."""
    queue: tuple[RunLine, ...]
    """First come, first served."""
    queued: int
    """All that wait; the queue shows the first of them."""

    def able(self, worker: WorkerView) -> str:
        """What it can do that not every worker can, by the method that needs it: `QLoRA`."""
        return ", ".join(METHODS[name].name if name in METHODS else name for name in worker.capabilities)
