"""Break-even: from how many tasks on one method is cheaper to train and store than another.

A task is an adapted model that is trained once and kept. What N of them cost is a straight line in N,

    c(N) = once + N · each

Whole models are kept N times and nothing once; adapters are kept N times too, and the base model that they need once.
So an adapter's line starts higher and rises less, and the two cross at N = (once_a − once_b) / (each_b − each_a).
"""

from dataclasses import dataclass
from math import floor

HOUR = 3600.0
KWH = 3.6e6
"""Joules of a kilowatt-hour."""
GIB = 1024**3


@dataclass(frozen=True)
class Prices:
    """In any one currency. Zero: it is free, or not given."""

    hour: float = 0.0
    """Price of a device for an hour."""
    kwh: float = 0.0
    """Price of a kilowatt-hour that a device draws."""
    gib_month: float = 0.0
    """Per 1024³ bytes stored for a month."""
    months: float = 12.0
    """How long the models are kept."""


@dataclass(frozen=True)
class Upkeep:
    """What an arm needs per task."""

    seconds: float
    """Device time of one run, from claim to result."""
    task_bytes: float
    """Bytes kept for each task."""
    base_bytes: float = 0.0
    """Kept once for all tasks; 0 where each task keeps a whole model."""
    joules: float = 0.0
    """That the device draws while a task trains; 0 where they were not measured."""


@dataclass(frozen=True)
class Line:
    """What N tasks take together."""

    once: float
    each: float

    def at(self, tasks: float) -> float:
        return self.once + self.each * tasks


def stored(upkeep: Upkeep) -> Line:
    return Line(upkeep.base_bytes, upkeep.task_bytes)


def cost(upkeep: Upkeep, prices: Prices) -> Line:
    """Training once and storing for so many months, in the currency of the prices."""
    stay = prices.gib_month * prices.months / GIB
    training = upkeep.seconds / HOUR * prices.hour + upkeep.joules / KWH * prices.kwh
    return Line(upkeep.base_bytes * stay, training + upkeep.task_bytes * stay)


def cheaper_from(one: Line, other: Line) -> int | None:
    """The least number of tasks, at least 1, from which on `one` takes less than `other`; None if it never stays so."""
    ahead, gain = one.once - other.once, other.each - one.each
    if gain < 0 or (gain == 0 and ahead >= 0):
        return None
    return 1 if gain == 0 else max(1, floor(ahead / gain) + 1)
