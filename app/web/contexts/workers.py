"""The context of the workers' page."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from app.domain.fits import Accuracy
from app.domain.methods import METHODS, Family
from app.services.calibrations import Known
from app.services.workers import WorkerView
from app.store.tables import RunRow, now
from app.web.numbers import NBSP, memory, percent, signed_percent
from app.web.words import methods


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
    def of(cls, found: Accuracy, known: Known | None) -> "AccuracyRow":
        """From the service."""
        facts, its = METHODS[found.method], known.calibration if known else None
        return cls(
            method=methods.name(facts),
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
        by_key = {(k.device_name, k.precision, k.method): k for k in known}
        devices = dict.fromkeys((one.device_name, one.precision) for one in found)
        return tuple(
            cls(
                device,
                precision,
                tuple(
                    AccuracyRow.of(one, by_key.get((device, precision, one.method)))
                    for one in found
                    if (one.device_name, one.precision) == (device, precision)
                ),
            )
            for device, precision in devices
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

    def able(self, worker: WorkerView) -> str:
        """What it can do that not every worker can, by the method that needs it: `QLoRA`."""
        return ", ".join(METHODS[name].name if name in METHODS else name for name in worker.capabilities)
