"""What a device adds to what is predicted for its runs, learnt from the runs that it has made.

    measured peak = predicted peak + constant        constant: buffers of libraries, a workspace, rounding
    train time    = predicted operations / rate      rate: operations a second that training reached there

Both are a median over past runs on the same device in the same precision with the same library versions, of the same
task and method where there are any (`alike`), with a band from their spread. Before a device has made a run, an assumed
constant stands in, and it says so.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from app.domain.resources.estimate import DeviceKind
from app.domain.tasks import Task

MIB = 2**20
ASSUMED: dict[tuple[DeviceKind, bool], tuple[int, int]] = {
    ("cpu", False): (48 * MIB, 15 * MIB),
    ("cpu", True): (64 * MIB, 20 * MIB),
    ("cuda", False): (40 * MIB, 40 * MIB),
    ("cuda", True): (40 * MIB, 40 * MIB),
}
"""Constant and half a band by device and whether it computes in bfloat16, where no run has been made. A CPU's cover
what classifiers and language models needed with torch 2.13 on x86 (docs/benchmarks/ledger.md); CUDA's are a workspace
of cuBLAS (8 × 4 MiB) and its rounding."""

CONTEXT_BYTES = 600 * MIB
"""Of a card: what CUDA's context and its kernels take beside the allocator. 300 to 700 MiB by card and driver."""
RESERVED_SHARE = 0.05
"""Of a card: what the allocator holds beyond what is allocated, because blocks do not fit together."""
LEAST_BAND = 0.01
"""Half a band is never narrower than this share of the estimate."""
USUAL_SHARE = 0.3
"""Of a device's matrix product that training reaches: 0.1 to 0.9 by model, method and precision."""
SHARE_FACTOR = 3.0
"""How many times more or less it may be."""
RATE_FACTOR = 1.5
"""How many times more or less a device may reach than in its first few runs."""
EVERY_RUN = 0.9
"""Share of past runs that a band holds."""


class CalibrationRun(NamedTuple):
    """What was predicted for a run that succeeded, and what it needed."""

    run_id: int
    task: Task
    method: str
    """Kind."""
    estimated_bytes: int
    measured_bytes: int
    estimated_flops: float
    """Of the steps that it trained: fewer than predicted, if it stopped early."""
    train_seconds: float


class Rate(BaseModel):
    """Operations a second that training reaches on a device."""

    model_config = ConfigDict(frozen=True)

    value: float
    factor: float
    """So many times more or less it may be."""
    runs: int
    """That it rests on; 0: it is a share of the device's matrix product."""


class Calibration(BaseModel):
    """A device's constants in one precision."""

    model_config = ConfigDict(frozen=True)

    runs: int
    """That the constant rests on; 0: assumed."""
    constant_bytes: int
    band_bytes: int
    """Half the width of the band around the constant."""
    rate: Rate | None = None
    """None where neither a run nor the device's matrix product tells."""


class EstimateBand(BaseModel):
    """Bytes or seconds with a band."""

    model_config = ConfigDict(frozen=True)

    value: float
    low: float
    high: float
    runs: int
    """Past runs that the band rests on; 0: assumed."""


def alike(past: Sequence[CalibrationRun], task: Task, method: str) -> Sequence[CalibrationRun]:
    """Of past runs those on a task, and of these those of a method, where there are any: the code that a task needs is
    in the constant, and what is held where, and how fast, differs by method."""
    own = [run for run in past if run.task == task] or past
    return [run for run in own if run.method == method] or own


def calibrate(
    device: DeviceKind,
    bf16: bool,
    past: Sequence[CalibrationRun],
    task: Task,
    method: str,
    matmul_flops: float | None = None,
) -> Calibration:
    """For a method on a task, from past runs on one device in one precision; assumed where there are none.

    `matmul_flops`: operations a second of the device's matrix product, of which training is assumed to reach a share
    where no run has told.
    """
    constant, band = ASSUMED[device, bf16]
    known = alike(past, task, method)
    if known:
        residuals = np.array([p.measured_bytes - p.estimated_bytes for p in known], dtype=np.float64)
        constant = int(np.median(residuals))
        seen = _half_band(residuals - constant, band)
        # Runs on another task do not tell how far this one is from them.
        band = int(seen if known[0].task == task else max(seen, band))
    return Calibration(
        runs=len(known), constant_bytes=max(0, constant), band_bytes=band, rate=_rate(known, matmul_flops)
    )


def _rate(past: Sequence[CalibrationRun], matmul_flops: float | None) -> Rate | None:
    """In logarithms, since a device may be so many times as fast."""
    rates = [p.estimated_flops / p.train_seconds for p in past if p.estimated_flops and p.train_seconds > 0]
    if not rates:
        return Rate(value=matmul_flops * USUAL_SHARE, factor=SHARE_FACTOR, runs=0) if matmul_flops else None
    logs = np.log(rates)
    middle = float(np.median(logs))
    half = max(_half_band(logs - middle, math.log(RATE_FACTOR)), math.log1p(LEAST_BAND))
    return Rate(value=math.exp(middle), factor=math.exp(half), runs=len(rates))


def _half_band(deviations: NDArray[np.float64], assumed: float) -> float:
    """What holds most of past runs. Few do not know their own spread: the assumed half band counts like two of them."""
    seen = float(np.quantile(np.abs(deviations), EVERY_RUN))
    return (len(deviations) * seen + 2 * assumed) / (len(deviations) + 2)


def peak(estimated_bytes: int, calibration: Calibration) -> EstimateBand:
    """What a run will need of a device's memory, above what its process needs without a model."""
    value = estimated_bytes + calibration.constant_bytes
    half = max(calibration.band_bytes, LEAST_BAND * value)
    return EstimateBand(value=value, low=max(0.0, value - half), high=value + half, runs=calibration.runs)


def train_seconds(train_flops: int, calibration: Calibration) -> EstimateBand | None:
    """How long training will take; None where no run on the device has told its rate."""
    rate = calibration.rate
    if not train_flops or rate is None:
        return None
    value = train_flops / rate.value
    return EstimateBand(value=value, low=value / rate.factor, high=value * rate.factor, runs=rate.runs)


def relative_error(predicted: float, measured: float) -> float:
    """(predicted − measured) / measured."""
    return (predicted - measured) / measured


class Missed(NamedTuple):
    """How far a run's estimate was from what was measured: (estimated − measured) / measured."""

    run_id: int
    task: Task
    method: str
    """Kind."""
    bytes: float
    seconds: float | None
    """None where no other run has told a rate."""


def missed(device: DeviceKind, bf16: bool, past: Sequence[CalibrationRun]) -> list[Missed]:
    """Each past run on a device held against an estimate that rests on the other runs only."""
    found = []
    for place, run in enumerate(past):
        others = calibrate(device, bf16, [*past[:place], *past[place + 1 :]], run.task, run.method)
        seconds = train_seconds(int(run.estimated_flops), others) if run.train_seconds > 0 else None
        found.append(
            Missed(
                run.run_id,
                run.task,
                run.method,
                relative_error(peak(run.estimated_bytes, others).value, run.measured_bytes),
                relative_error(seconds.value, run.train_seconds) if seconds else None,
            )
        )
    return found


Fit = Literal["fits", "tight", "does_not_fit", "unknown"]


def fit(need: EstimateBand, capacity_bytes: int | None, device: DeviceKind) -> Fit:
    """Whether a need fits a device: `tight` where its band reaches the capacity, or the value alone would fit.

    Of a card, its context and what its allocator holds beyond what is allocated are taken off; of a host, a tenth,
    which the system and the trainer's own libraries need.
    """
    if capacity_bytes is None:
        return "unknown"
    room = usable(capacity_bytes, device)
    if need.high <= room:
        return "fits"
    return "tight" if need.low <= room else "does_not_fit"


def usable(capacity_bytes: int, device: DeviceKind) -> float:
    """Of a device's memory, what tensors may take."""
    if device == "cuda":
        return (capacity_bytes - CONTEXT_BYTES) / (1 + RESERVED_SHARE)
    return max(0.0, 0.9 * capacity_bytes - HOST_BYTES)


HOST_BYTES = 700 * MIB
"""Of a host: the trainer before its model is loaded (interpreter, torch, transformers)."""


class Card(NamedTuple):
    """A well-known accelerator."""

    name: str
    memory_bytes: int
    bf16: bool = True
    """It has bfloat16 arithmetic: cards since Ampere (2020) do."""


GIB = 2**30
CARDS: tuple[Card, ...] = (
    Card("RTX 3060", 12 * GIB),
    Card("T4", 16 * GIB, bf16=False),
    Card("RTX 4080", 16 * GIB),
    Card("RTX 3090, 4090", 24 * GIB),
    Card("L4, A10G", 24 * GIB),
    Card("RTX 5090", 32 * GIB),
    Card("A100 40 GB", 40 * GIB),
    Card("L40S", 48 * GIB),
    Card("A100 80 GB, H100", 80 * GIB),
    Card("H200", 141 * GIB),
)
"""Memory as their makers state it (data sheets of NVIDIA); drivers show a little less."""
