"""How long a device takes for work, learned from its measured rates and its past runs.

    seconds = a · calls + b · bytes + c · flops / rate

`rate` is the measured throughput of matrix products at the width of the model's layers. Before a device has past runs,
a, b and c are what its measured rates say, each within a factor. Past runs correct the three, and with them what this
sum leaves out: a run's deviation also counts for others, the less, the less their bytes and operations per call are
like its own. Seconds are in logarithms, where this is a Gaussian process (Rasmussen & Williams 2006, section 2.7) whose
mean is linearized at the constants found. So a range follows: narrow for what the device has done before, wide for what
is unlike it.

Load of the machine slows a run and changes no constant: a run counts with the seconds in which all of its threads had a
processor, and the less, the more it waited. A run that fits none of the others counts less too (errors have Student's
t-distribution).
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.domain.resources.work import Work

_Array = NDArray[np.float64]

USUAL = (2.0, 2.0, 0.9)
"""What training takes for a call, a byte and a floating-point operation, as multiples of what is measured alone."""
FACTORS = (1.6, 2.0, 1.25)
"""Each of these may be larger or smaller by this factor (one standard deviation)."""
ASSUMED_FACTORS = (2.5, 3.0, 2.5)
"""The same where the rate has not been measured but is assumed."""
LEFT_OUT = 0.15
"""Standard deviation of what the sum leaves out, in logarithms."""
ALIKE = 0.7
"""Distance of two runs, in logarithms of their bytes and operations per call, at which they share 60 % of that."""
REPEATED = 0.08
"""Standard deviation of a run's seconds when it is repeated, in logarithms."""
LOADED = 0.5
"""For a run that waited: the share of the correction, in logarithms, by which it may be wrong."""
FREEDOM = 4.0
"""Degrees of freedom of the errors' t-distribution."""
WIDTH = 1.645
"""Standard deviations of half a range, which is to cover 90 %."""
_ROUNDS = 20


class DeviceRates(NamedTuple):
    """What a device does in a second in one precision, measured; None or empty where it is not."""

    peak: float | None = None
    """Floating-point operations of products of large matrices."""
    by_width: Mapping[int, float] = {}
    """The same for a layer's products for a few hundred tokens, by its width."""
    calls: float | None = None
    """Operations of a training pass whose tensors are tiny."""
    bytes: float | None = None
    """Read and written by an addition."""

    def at(self, width: int) -> float | None:
        """The rate of products of a model whose hidden states have a width, between those measured; `peak` where
        either is unknown."""
        if not width or not self.by_width:
            return self.peak
        widths = sorted(self.by_width)
        logs = [math.log(self.by_width[known]) for known in widths]
        return math.exp(float(np.interp(math.log(width), np.log(widths), logs)))

    @classmethod
    def best(cls, measured: Sequence["DeviceRates"]) -> "DeviceRates":
        """The highest of each: load of a machine only lowers them."""
        widths = {width for rates in measured for width in rates.by_width}
        return cls(
            max((rates.peak for rates in measured if rates.peak), default=None),
            {width: max(rates.by_width.get(width, 0.0) for rates in measured) for width in widths},
            max((rates.calls for rates in measured if rates.calls), default=None),
            max((rates.bytes for rates in measured if rates.bytes), default=None),
        )


ASSUMED = DeviceRates(peak=1e11, calls=15_000.0, bytes=3e10)
"""For a device of which nothing is measured: a CPU of two cores."""


class Trained(NamedTuple):
    """The training of a past run."""

    work: Work
    width: int
    """Width of the model's hidden states; 0 where it is not known."""
    seconds: float
    waiting: float = 0.0
    """Seconds in which its threads waited for a processor, added up over them."""
    threads: int = 1

    @property
    def own_seconds(self) -> float:
        """In which all of its threads had a processor, which each of them lacked independently of the others."""
        share = min(0.9, self.waiting / (self.threads * self.seconds))
        return self.seconds * (1.0 - share) ** self.threads


class Seconds(NamedTuple):
    """An estimate."""

    value: float
    factor: float
    """It may be longer or shorter by this factor."""
    runs: int
    """Past runs behind it."""


class Speed:
    """Speed of a device in one precision."""

    def __init__(self, rates: DeviceRates, past: Sequence[Trained]) -> None:
        self._rates, self._past = rates, past
        known = (rates.calls, rates.bytes, rates.peak or rates.by_width)
        factors = (own if rate else assumed for rate, own, assumed in zip(known, FACTORS, ASSUMED_FACTORS, strict=True))
        self._usual = np.log(USUAL)
        self._spread = np.diag([math.log(factor) ** 2 for factor in factors])
        self._constants = self._usual
        if past:
            self._learn()

    def of(self, work: Work, width: int) -> Seconds:
        parts = self._parts(work, width)
        mean, slope = self._sum(parts)
        centre = float(mean + slope @ (self._usual - self._constants))
        variance = float(slope @ self._spread @ slope) + LEFT_OUT**2 + REPEATED**2
        if self._past:
            left_out = self._left_out([run.work for run in self._past], [work])
            shared = self._slopes @ self._spread @ slope + left_out[:, 0]
            centre += float(shared @ self._weights)
            variance -= float(shared @ self._inverse @ shared)
        return Seconds(math.exp(centre), math.exp(WIDTH * math.sqrt(variance)), len(self._past))

    def left_out_errors(self) -> list[float]:
        """For each past run the error of its estimate from the others, as a share of its own seconds."""
        return [math.expm1(-error) for error in self._weights / np.diag(self._inverse)] if len(self._past) > 1 else []

    def _learn(self) -> None:
        parts = np.array([self._parts(run.work, run.width) for run in self._past])
        seconds = np.log([run.own_seconds for run in self._past])
        work = [run.work for run in self._past]
        lost = np.log([run.seconds for run in self._past]) - seconds
        usual = REPEATED**2 + (LOADED * lost) ** 2
        alike: _Array = self._left_out(work, work)
        errors: _Array = usual
        for _round in range(_ROUNDS):
            sums = [self._sum(row) for row in parts]
            self._slopes: _Array = np.array([slope for _mean, slope in sums])
            means = np.array([mean for mean, _slope in sums])
            expected = means + self._slopes @ (self._usual - self._constants)
            together = self._slopes @ self._spread @ self._slopes.T + alike + np.diag(errors)
            self._inverse: _Array = np.linalg.inv(together).astype(np.float64)
            self._weights: _Array = self._inverse @ (seconds - expected)
            self._constants = self._usual + self._spread @ self._slopes.T @ self._weights
            missed = errors * self._weights
            errors = usual * (FREEDOM + missed**2 / usual) / (FREEDOM + 1)

    def _parts(self, work: Work, width: int) -> _Array:
        """The seconds that calls, bytes and operations would take at the measured rates."""
        rates, assumed = self._rates, ASSUMED
        of_products = rates.at(width) or assumed.peak or 1.0
        speeds = (rates.calls or assumed.calls, rates.bytes or assumed.bytes, of_products)
        return np.array([amount / (speed or 1.0) for amount, speed in zip(work, speeds, strict=True)])

    def _sum(self, parts: _Array) -> tuple[float, _Array]:
        """The logarithm of the seconds by the constants, and its derivatives: the share of each part."""
        seconds = parts * np.exp(self._constants)
        return math.log(seconds.sum()), seconds / seconds.sum()

    @staticmethod
    def _left_out(some: Sequence[Work], others: Sequence[Work]) -> _Array:
        """Covariance of what the sum leaves out."""
        rows, columns = (np.log([[w.bytes / w.calls, 1 + w.flops / w.calls] for w in work]) for work in (some, others))
        apart = ((rows[:, None] - columns[None]) ** 2).sum(-1)
        return LEFT_OUT**2 * np.exp(-apart / (2 * ALIKE**2))  # type: ignore[no-any-return]
