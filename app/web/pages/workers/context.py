"""The context of the workers' page."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from app.domain.methods import METHODS, Family
from app.domain.resources.memory_fit import Accuracy
from app.domain.tasks import TASKS
from app.services.resources.calibration import Assumption, Known
from app.services.workers import WorkerView
from app.store.queries.past_estimates import Precision
from app.store.tables import RunRow, now
from app.web.format import NBSP, memory, percent, signed_percent
from app.web.i18n import gettext as _
from app.web.text import methods
from app.web.text.fields import option


@dataclass(frozen=True)
class RunLine:
    """A run that a worker is at, or that waits for one."""

    id: int
    family: Family
    arm: str
    study_id: int | None
    study: str
    seed: int
    queued_at: datetime

    @property
    def waits_seconds(self) -> float:
        """Since it was queued."""
        return (now() - self.queued_at).total_seconds()

    @classmethod
    def of(cls, row: RunRow, studies: Mapping[int, str]) -> "RunLine":
        """From its row; `studies` has names by id."""
        return cls(
            id=row.id,
            family=row.family,
            arm=row.arm,
            study_id=row.study_id,
            study=studies.get(row.study_id or 0, ""),
            seed=row.seed,
            queued_at=row.queued_at,
        )


@dataclass(frozen=True)
class AccuracyRow:
    """How far the estimates of a method were off on a device, and what is added to them there."""

    method: str
    task: str
    """Empty where the device has runs on one task alone."""
    family: Family
    runs: int
    peak_mean: str
    peak_worst: str
    time_mean: str
    """An en dash where no rate is known, as of the worst."""
    time_worst: str
    constant: str
    band: str

    @classmethod
    def of(cls, found: Accuracy, known: Known | None, *, several: bool) -> "AccuracyRow":
        """From the service; `several`: the device has runs on several tasks."""
        facts, its = METHODS[found.method], known.calibration if known else None
        return cls(
            method=methods.name(facts),
            task=_(TASKS[found.task].title) if several else "",
            family=facts.family,
            runs=found.peak.runs,
            peak_mean=percent(found.peak.mean),
            peak_worst=signed_percent(found.peak.worst),
            time_mean=percent(found.train.mean if found.train else None),
            time_worst=signed_percent(found.train.worst if found.train else None),
            constant=memory(its.constant_bytes if its else None),
            band=f"±{NBSP}{memory(its.band_bytes)}" if its else "",
        )


@dataclass(frozen=True)
class DeviceAccuracy:
    """A device in one precision."""

    device: str
    precision: str
    rows: tuple[AccuracyRow, ...]

    @classmethod
    def each(cls, found: Sequence[Accuracy], known: Iterable[Known]) -> "tuple[DeviceAccuracy, ...]":
        """By device."""
        by_key = {(k.device_name, k.precision, k.task, k.method): k for k in known}
        devices: dict[tuple[str, Precision], list[Accuracy]] = {}
        for one in found:
            devices.setdefault((one.device_name, one.precision), []).append(one)
        return tuple(
            cls(
                device,
                precision,
                tuple(
                    AccuracyRow.of(
                        one,
                        by_key.get((device, precision, one.task, one.method)),
                        several=len({other.task for other in own}) > 1,
                    )
                    for one in own
                ),
            )
            for (device, precision), own in devices.items()
        )


def unproven(found: Assumption) -> str:
    """What is assumed of a device without runs, in a sentence."""
    return _(
        "%(device)s has made no run in %(format)s yet: until it has, %(constant)s ± %(band)s is assumed for it.",
        device=found.machine.device_name or found.machine.name,
        format=option("bf16", "true" if found.machine.bf16 else "false"),
        constant=memory(found.constant_bytes),
        band=memory(found.band_bytes),
    )


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
    accuracy: tuple[DeviceAccuracy, ...]
    """Estimates against measurements; left out where htmx only asks who works."""
    assumed: tuple[str, ...]
    """A sentence for each device that has made no run; left out alike."""

    def able(self, worker: WorkerView) -> str:
        """What it can do that not every worker can, by the method that needs it: `QLoRA`."""
        return ", ".join(METHODS[name].name if name in METHODS else name for name in worker.capabilities)
