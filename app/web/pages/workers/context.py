"""The context of the workers page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.domain.resources.calibration import Accuracy
from app.services.resources.calibration import Assumption
from app.services.workers import WorkerView
from app.store.tables import RunRow


@dataclass(frozen=True)
class WorkersPage:
    """Workers, the queue, and the accuracy of estimates."""

    workers: Sequence[WorkerView]
    running: Mapping[int, RunRow]
    """By id."""
    queue: Sequence[RunRow]
    """First come, first served."""
    studies: Mapping[int, str]
    """Names of the runs' studies, by id."""
    queued: int
    """All queued runs; `queue` has the first of them."""
    accuracy: Mapping[tuple[str, str], Sequence[Accuracy]]
    """By device and precision; empty where htmx polls."""
    assumed: Sequence[Assumption]
    """Of devices without past runs; empty where htmx polls."""
