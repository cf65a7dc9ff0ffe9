"""From a resource estimate to a device: what the device adds, learned from its past runs.

    peak = estimated peak + constant        constant: library buffers, a workspace, rounding

It is a median over past runs on the same device in the same precision with the same library versions, of the same task
and method where there are any (`similar_runs`), with a band from their spread. For a device without past runs an
assumed constant stands in, marked as assumed. Train times follow from the device's `Speed`.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from app.domain.resources.devices import MIB, Device, DeviceKind
from app.domain.resources.speed import DeviceRates, Speed, Trained
from app.domain.resources.work import Work
from app.domain.tasks import Task

ASSUMED: dict[tuple[DeviceKind, bool], tuple[int, int]] = {
    ("cpu", False): (48 * MIB, 15 * MIB),
    ("cpu", True): (64 * MIB, 20 * MIB),
    ("cuda", False): (40 * MIB, 40 * MIB),
    ("cuda", True): (40 * MIB, 40 * MIB),
}
"""Constant and half band by device kind and bfloat16, where there is no past run. A CPU's cover what classifiers and
language models needed with torch 2.13 on x86 (docs/benchmarks/ledger.md); CUDA's are a workspace of cuBLAS (8 × 4 MiB)
and its rounding."""

LEAST_BAND = 0.01
"""Half a band is never narrower than this share of the estimate."""
BAND_COVERAGE = 0.9
"""Share of past runs inside a band."""

Precision = Literal["fp32", "bf16"]
Fit = Literal["fits", "tight", "does_not_fit", "unknown"]


class CalibrationRun(NamedTuple):
    """A succeeded run: its estimate and its measurement."""

    run_id: int
    task: Task
    method: str
    """Kind."""
    estimated_bytes: int
    measured_bytes: int
    trained: Trained | None = None
    """The steps that it trained: fewer than planned, if it stopped early. None where its work or time is not known."""
    rates: DeviceRates = DeviceRates()
    """Rates of its device, measured when it started."""


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True)


class Calibration(_Value):
    """A device's constants in one precision."""

    runs: int
    """Past runs behind the constant; 0: assumed."""
    constant_bytes: int
    band_bytes: int
    """Half the width of the band around the constant."""


class EstimateBand(_Value):
    """Bytes or seconds with a band."""

    value: float
    low: float
    high: float
    runs: int
    """Past runs behind the band; 0: assumed."""


class ErrorSummary(_Value):
    """Errors of estimates: (estimated − measured) / measured."""

    runs: int
    mean: float
    """Mean absolute error."""
    worst: float
    """The largest error, signed: above 0, the estimate was too high."""

    @classmethod
    def of(cls, errors: Sequence[float]) -> "ErrorSummary":
        """Summarize at least one error."""
        return cls(runs=len(errors), mean=sum(map(abs, errors)) / len(errors), worst=max(errors, key=abs))


class Accuracy(_Value):
    """Estimates of one method and task on one device, compared with the measurements. Each run's estimate is
    calibrated on the other runs only (leave-one-out)."""

    device_name: str
    precision: Precision
    task: Task
    method: str
    """Kind."""
    peak: ErrorSummary
    train: ErrorSummary | None
    """None without another run whose time is known."""
    constant_bytes: int
    """What the device adds to each estimated peak, from all of its runs."""
    band_bytes: int


def similar_runs(past: Sequence[CalibrationRun], task: Task, method: str) -> Sequence[CalibrationRun]:
    """Past runs on the same task, and of these those of the same method, where there are any: the constant depends on
    the task's code, and the memory layout on the method."""
    same_task = [run for run in past if run.task == task] or past
    return [run for run in same_task if run.method == method] or same_task


def calibrate(
    kind: DeviceKind,
    bf16: bool,
    past: Sequence[CalibrationRun],
    task: Task,
    method: str,
) -> Calibration:
    """Calibrate a method on a task from past runs on one device in one precision; assumed where there are none."""
    constant, band = ASSUMED[kind, bf16]
    runs = similar_runs(past, task, method)
    if runs:
        residuals = np.array([run.measured_bytes - run.estimated_bytes for run in runs], dtype=np.float64)
        constant = int(np.median(residuals))
        spread = _half_band(residuals - constant, band)
        # Runs on another task do not show how far this one is from them.
        band = int(spread if runs[0].task == task else max(spread, band))
    return Calibration(runs=len(runs), constant_bytes=max(0, constant), band_bytes=band)


def speed_of(past: Sequence[CalibrationRun], rates: DeviceRates) -> Speed | None:
    """The speed of a device by its past runs in one precision and by its rates as they are known without those; None
    without either."""
    trained = [run.trained for run in past if run.trained]
    best = DeviceRates.best([rates, *(run.rates for run in past)])
    return Speed(best, trained) if trained or best.peak else None


def _half_band(deviations: NDArray[np.float64], assumed: float) -> float:
    """A quantile of the deviations, shrunk towards the assumed half band, which counts like two runs."""
    observed = float(np.quantile(np.abs(deviations), BAND_COVERAGE))
    return (len(deviations) * observed + 2 * assumed) / (len(deviations) + 2)


def peak(estimated_bytes: int, calibration: Calibration) -> EstimateBand:
    """A run's peak on a device, above what its process needs without a model."""
    value = estimated_bytes + calibration.constant_bytes
    half = max(calibration.band_bytes, LEAST_BAND * value)
    return EstimateBand(value=value, low=max(0.0, value - half), high=value + half, runs=calibration.runs)


def train_seconds(work: Work | None, width: int, speed: Speed | None) -> EstimateBand | None:
    """Seconds of a run's work on a device, for hidden states of this width; None where either is not known."""
    if work is None or not work.calls or speed is None:
        return None
    value, factor, runs = speed.of(work, width)
    return EstimateBand(value=value, low=value / factor, high=value * factor, runs=runs)


def memory_fit(need: EstimateBand, device: Device) -> Fit:
    """Whether a peak fits a device: `tight` where its band reaches the usable memory."""
    usable = device.usable_bytes
    if usable is None:
        return "unknown"
    if need.high <= usable:
        return "fits"
    return "tight" if need.low <= usable else "does_not_fit"


def relative_error(estimated: float, measured: float) -> float:
    """(estimated − measured) / measured."""
    return (estimated - measured) / measured


def accuracy(
    kind: DeviceKind,
    device_name: str,
    precision: Precision,
    past: Sequence[CalibrationRun],
    rates: DeviceRates = DeviceRates(),  # noqa: B008 immutable
) -> list[Accuracy]:
    """The accuracy of a device's estimates, by task and method. `rates` are the device's."""
    bf16 = precision == "bf16"
    peaks: dict[tuple[Task, str], list[float]] = {}
    times: dict[tuple[Task, str], list[float]] = {}
    for place, run in enumerate(past):
        others = calibrate(kind, bf16, [*past[:place], *past[place + 1 :]], run.task, run.method)
        error = relative_error(peak(run.estimated_bytes, others).value, run.measured_bytes)
        peaks.setdefault((run.task, run.method), []).append(error)
    speed = speed_of(past, rates)
    for run, error in zip((run for run in past if run.trained), speed.left_out_errors() if speed else (), strict=False):
        times.setdefault((run.task, run.method), []).append(error)
    rows = []
    for (task, method), found in peaks.items():
        calibration = calibrate(kind, bf16, past, task, method)
        seconds = times.get((task, method))
        rows.append(
            Accuracy(
                device_name=device_name,
                precision=precision,
                task=task,
                method=method,
                peak=ErrorSummary.of(found),
                train=ErrorSummary.of(seconds) if seconds else None,
                constant_bytes=calibration.constant_bytes,
                band_bytes=calibration.band_bytes,
            )
        )
    return rows
