"""From a resource estimate to a device: what the device adds, learned from its past runs.

    peak       = estimated peak + constant        constant: library buffers, a workspace, rounding
    train time = estimated operations / rate      rate: operations a second that training reaches there

Both are medians over past runs on the same device in the same precision with the same library versions, of the same
task and method where there are any (`similar_runs`), with a band from their spread. For a device without past runs an
assumed constant stands in, marked as assumed.

A rate depends on the model: its layers are products of matrices, and small ones do not reach the device's peak. Without
past runs of the model, the share of the device's measured rate at the width of *their* layers that past runs of other
models reached is taken of the rate at the width of *its* layers, in a wide band.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from app.domain.resources.devices import MIB, Device, DeviceKind
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
USUAL_SHARE = 0.3
"""Share of a device's matrix-product throughput that training reaches: 0.1 to 0.9 by model, method and precision."""
SHARE_FACTOR = 3.0
"""The share may be higher or lower by this factor."""
RATE_FACTOR = 1.5
"""A device's first few runs may be faster or slower than its later ones by this factor."""
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
    estimated_flops: float
    """For the steps that it trained: fewer than planned, if it stopped early."""
    train_seconds: float
    model: str = ""
    """Fingerprint of the base model."""
    width: int = 0
    """Of its hidden states; 0 where it is not known."""


class MatmulRates(NamedTuple):
    """Matrix-product throughput of a device in one precision, operations a second."""

    peak: float | None = None
    """Of large matrices; None where it is not measured."""
    by_width: Mapping[int, float] = {}
    """Of a layer's products for a few hundred tokens, by its width."""

    def at(self, width: int) -> float | None:
        """The rate of a model whose hidden states have a width, between those measured; `peak` where either is
        unknown."""
        if not width or not self.by_width:
            return self.peak
        widths = sorted(self.by_width)
        logs = [math.log(self.by_width[known]) for known in widths]
        return math.exp(float(np.interp(math.log(width), np.log(widths), logs)))


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True)


class Rate(_Value):
    """Operations a second that training reaches on a device."""

    value: float
    factor: float
    """The rate may be higher or lower by this factor."""
    runs: int
    """Past runs behind it; 0: a share of the device's matrix-product throughput."""


class Calibration(_Value):
    """A device's constants in one precision."""

    runs: int
    """Past runs behind the constant; 0: assumed."""
    constant_bytes: int
    band_bytes: int
    """Half the width of the band around the constant."""
    rate: Rate | None = None
    """None without past runs and without a measured matrix-product throughput."""


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
    """None where neither another run nor the device's throughput gives a rate."""
    constant_bytes: int
    """What the device adds to each estimated peak, from all of its runs."""
    band_bytes: int


def similar_runs(past: Sequence[CalibrationRun], task: Task, method: str) -> Sequence[CalibrationRun]:
    """Past runs on the same task, and of these those of the same method, where there are any: the constant depends on
    the task's code, and the memory layout and the speed on the method."""
    same_task = [run for run in past if run.task == task] or past
    return [run for run in same_task if run.method == method] or same_task


def calibrate(
    kind: DeviceKind,
    bf16: bool,
    past: Sequence[CalibrationRun],
    task: Task,
    method: str,
    rates: MatmulRates = MatmulRates(),  # noqa: B008 immutable
    model: str = "",
    width: int = 0,
) -> Calibration:
    """Calibrate a method on a task from past runs on one device in one precision; assumed where there are none.

    `rates` are the device's: without past runs, training is assumed to reach a share of them. `model` is the base
    model's fingerprint, and `width` that of its hidden states.
    """
    constant, band = ASSUMED[kind, bf16]
    runs = similar_runs(past, task, method)
    if runs:
        residuals = np.array([run.measured_bytes - run.estimated_bytes for run in runs], dtype=np.float64)
        constant = int(np.median(residuals))
        spread = _half_band(residuals - constant, band)
        # Runs on another task do not show how far this one is from them.
        band = int(spread if runs[0].task == task else max(spread, band))
    return Calibration(
        runs=len(runs), constant_bytes=max(0, constant), band_bytes=band, rate=_rate(runs, rates, model, width)
    )


def _rate(past: Sequence[CalibrationRun], matmul: MatmulRates, model: str, width: int) -> Rate | None:
    """In logarithms, since the band of a rate is a factor."""
    timed = [run for run in past if run.estimated_flops and run.train_seconds > 0]
    own = [run for run in timed if run.model == model]
    here = matmul.at(width)
    if not timed:
        return Rate(value=here * USUAL_SHARE, factor=SHARE_FACTOR, runs=0) if here else None
    logs = np.log([run.estimated_flops / run.train_seconds for run in own or timed])
    if not own and here is not None and width:
        there = [matmul.at(run.width) if run.width else None for run in timed]
        logs = logs + np.log([here / rate if rate else 1.0 for rate in there])
    median = float(np.median(logs))
    least = math.log1p(LEAST_BAND) if own else math.log(SHARE_FACTOR)  # other models do not show how far this one is
    half = max(_half_band(logs - median, math.log(RATE_FACTOR)), least)
    return Rate(value=math.exp(median), factor=math.exp(half), runs=len(logs))


def _half_band(deviations: NDArray[np.float64], assumed: float) -> float:
    """A quantile of the deviations, shrunk towards the assumed half band, which counts like two runs."""
    observed = float(np.quantile(np.abs(deviations), BAND_COVERAGE))
    return (len(deviations) * observed + 2 * assumed) / (len(deviations) + 2)


def peak(estimated_bytes: int, calibration: Calibration) -> EstimateBand:
    """A run's peak on a device, above what its process needs without a model."""
    value = estimated_bytes + calibration.constant_bytes
    half = max(calibration.band_bytes, LEAST_BAND * value)
    return EstimateBand(value=value, low=max(0.0, value - half), high=value + half, runs=calibration.runs)


def train_seconds(train_flops: int, calibration: Calibration) -> EstimateBand | None:
    """A run's train time on a device; None where its rate is not known."""
    rate = calibration.rate
    if not train_flops or rate is None:
        return None
    value = train_flops / rate.value
    return EstimateBand(value=value, low=value / rate.factor, high=value * rate.factor, runs=rate.runs)


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
    rates: MatmulRates = MatmulRates(),  # noqa: B008 immutable
) -> list[Accuracy]:
    """The accuracy of a device's estimates, by task and method. `rates` are the device's."""
    bf16 = precision == "bf16"
    errors: dict[tuple[Task, str], list[tuple[float, float | None]]] = {}
    for place, run in enumerate(past):
        rest = [*past[:place], *past[place + 1 :]]
        others = calibrate(kind, bf16, rest, run.task, run.method, rates, run.model, run.width)
        errors.setdefault((run.task, run.method), []).append(leave_one_out_errors(run, others))
    rows = []
    for (task, method), pairs in errors.items():
        seconds = [error for _bytes, error in pairs if error is not None]
        calibration = calibrate(kind, bf16, past, task, method)
        rows.append(
            Accuracy(
                device_name=device_name,
                precision=precision,
                task=task,
                method=method,
                peak=ErrorSummary.of([error for error, _seconds in pairs]),
                train=ErrorSummary.of(seconds) if seconds else None,
                constant_bytes=calibration.constant_bytes,
                band_bytes=calibration.band_bytes,
            )
        )
    return rows


def leave_one_out_errors(run: CalibrationRun, others: Calibration) -> tuple[float, float | None]:
    """Relative errors of a run's peak and train time, calibrated on the other runs; the second is None without a
    rate."""
    seconds = train_seconds(int(run.estimated_flops), others) if run.train_seconds > 0 else None
    return (
        relative_error(peak(run.estimated_bytes, others).value, run.measured_bytes),
        relative_error(seconds.value, run.train_seconds) if seconds else None,
    )
