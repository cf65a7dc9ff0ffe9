"""The context of the workers page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from app.domain.methods import METHODS, Family
from app.domain.resources.calibration import Accuracy
from app.domain.tasks import TASKS
from app.services.resources.calibration import Assumption
from app.services.workers import WorkerView
from app.store.tables import RunRow, now
from app.web.format import memory
from app.web.i18n import gettext as _
from app.web.text import methods
from app.web.text.fields import option


@dataclass(frozen=True)
class DeviceAccuracy:
    """How accurate estimates were on a device in one precision, by method."""

    device: str
    precision: str
    rows: tuple[Accuracy, ...]

    @classmethod
    def each(cls, rows: Sequence[Accuracy]) -> "tuple[DeviceAccuracy, ...]":
        """By device and precision; the rows are in that order."""
        groups = groupby(rows, key=lambda row: (row.device_name, row.precision))
        return tuple(cls(device, precision, tuple(own)) for (device, precision), own in groups)

    @property
    def several_tasks(self) -> bool:
        """Its rows name their tasks."""
        return len({row.task for row in self.rows}) > 1

    def family(self, row: Accuracy) -> Family:
        """Of its method."""
        return METHODS[row.method].family

    def method(self, row: Accuracy) -> str:
        """Its method's name."""
        return methods.name(METHODS[row.method])

    def task(self, row: Accuracy) -> str:
        """Its task's title."""
        return _(TASKS[row.task].title)


def assumption(assumed: Assumption) -> str:
    """What is assumed of a device without past runs, in a sentence."""
    return _(
        "%(device)s has no run in %(precision)s yet, so its constant is assumed: %(constant)s ± %(band)s.",
        device=assumed.device.device_name or assumed.device.name,
        precision=option("bf16", "true" if assumed.device.bf16 else "false"),
        constant=memory(assumed.constant_bytes),
        band=memory(assumed.band_bytes),
    )


@dataclass(frozen=True)
class WorkersPage:
    """Workers, the queue, and the accuracy of estimates."""

    workers: tuple[WorkerView, ...]
    running: Mapping[int, RunRow]
    """By id."""
    queue: tuple[RunRow, ...]
    """First come, first served."""
    studies: Mapping[int, str]
    """Names of the runs' studies, by id."""
    queued: int
    """All queued runs; `queue` has the first of them."""
    accuracy: tuple[DeviceAccuracy, ...]
    """Empty where htmx polls."""
    assumed: tuple[str, ...]
    """A sentence for each device without past runs; empty where htmx polls."""

    def capabilities(self, worker: WorkerView) -> str:
        """The methods that need a capability which it has: `QLoRA`."""
        return ", ".join(METHODS[name].name if name in METHODS else name for name in worker.capabilities)

    def wait_seconds(self, run: RunRow) -> float:
        """Since it was queued."""
        return (now() - run.queued_at).total_seconds()
