"""Calibrations of devices from their past runs, and the accuracy of estimates."""

from typing import NamedTuple

from sqlalchemy.orm import Session

from app.domain.resources import calibration
from app.domain.resources.calibration import (
    ASSUMED,
    Accuracy,
    Calibration,
    CalibrationRun,
    EstimateBand,
    Fit,
    calibrate,
    memory_fit,
    peak,
    speed_of,
    train_seconds,
)
from app.domain.resources.devices import Device
from app.domain.resources.estimate import EstimateRequest, ResourceEstimate
from app.domain.resources.speed import DeviceRates, Speed
from app.domain.tasks import Task
from app.services.resources.devices import available, kind_of, of_worker
from app.settings import Settings
from app.store.resources import past_estimates
from app.store.workers import queries as workers


class Bands(NamedTuple):
    """A resource estimate on a device."""

    peak: EstimateBand
    train_seconds: EstimateBand | None
    """None where the device's rate is not known, or without a dataset."""
    reference_seconds: EstimateBand | None
    """Seconds of DPO's reference."""
    fit: Fit


class Calibrations:
    """Calibrations by device, whose past runs are read once. `without`: a run to leave out, since its estimate is
    compared with its measurement."""

    def __init__(self, session: Session, without: int | None = None) -> None:
        self._session, self._without = session, without
        self._past: dict[tuple[str, bool], list[CalibrationRun]] = {}
        self._speeds: dict[tuple[str, str, bool], Speed | None] = {}

    def of(self, device: Device, bf16: bool, task: Task, method: str) -> Calibration:
        """A device's constants when it computes in bfloat16, or in float32; `method` is a kind."""
        return calibrate(device.kind, bf16, self._runs(device, bf16), task, method)

    def speed(self, device: Device, bf16: bool) -> Speed | None:
        """The speed of a device when it computes in bfloat16, or in float32; None where nothing is known of it."""
        key = (device.name, device.device_name, bf16)
        if key not in self._speeds:
            runs = self._runs(device, bf16)
            own = DeviceRates(device.matmul_flops, device.matmul_rates) if bf16 is device.bf16 else DeviceRates()
            self._speeds[key] = speed_of(runs, own)
        return self._speeds[key]

    def bands(self, device: Device, request: EstimateRequest, estimate: ResourceEstimate) -> Bands:
        """What an estimate means on a device."""
        need = peak(estimate.peak_bytes, self.of(device, request.bf16, request.task, request.method.kind))
        speed = self.speed(device, request.bf16)
        return Bands(
            peak=need,
            train_seconds=train_seconds(estimate.train_work, estimate.width, speed),
            reference_seconds=train_seconds(estimate.reference_work, estimate.width, speed),
            fit=memory_fit(need, device),
        )

    def _runs(self, device: Device, bf16: bool) -> list[CalibrationRun]:
        if not device.worker:
            return []
        key = (device.device_name, bf16)
        if key not in self._past:
            precision: calibration.Precision = "bf16" if bf16 else "fp32"
            self._past[key] = past_estimates.on_device(
                self._session, device.device_name, precision, without=self._without
            )
        return self._past[key]


def accuracy(session: Session) -> list[Accuracy]:
    """The accuracy of estimates by device, precision, task and method."""
    return [
        row
        for device in past_estimates.devices(session)
        for row in calibration.accuracy(
            kind_of(device.kind),
            device.name,
            device.precision,
            past_estimates.on_device(session, device.name, device.precision),
            _rates(session, device),
        )
    ]


def _rates(session: Session, device: past_estimates.Device) -> DeviceRates:
    """The throughput of a device in a precision, where a worker that still exists has measured it."""
    row = workers.of_device(session, device.name, bf16=device.precision == "bf16")
    if row is None:
        return DeviceRates()
    worker = of_worker(row)
    return DeviceRates(worker.matmul_flops, worker.matmul_rates)


class Assumption(NamedTuple):
    """The device constant that is assumed for a device without past runs."""

    device: Device
    """The first live worker with such a device."""
    constant_bytes: int
    band_bytes: int
    """Half the width of the band around it."""


def assumed(session: Session, settings: Settings) -> list[Assumption]:
    """The assumption for each live worker's device that has no past runs in its default precision."""
    measured = {(device.name, device.precision == "bf16") for device in past_estimates.devices(session)}
    assumptions: dict[tuple[str, bool], Assumption] = {}
    for device in available(session, settings):
        key = (device.device_name, device.bf16)
        if device.worker and key not in measured:
            assumptions.setdefault(key, Assumption(device, *ASSUMED[device.kind, device.bf16]))
    return list(assumptions.values())
