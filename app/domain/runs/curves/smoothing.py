"""Curves over seeds: each smoothed on request, all of them on one grid, with mean and band. On full data.

    m_t = β·m_{t−1} + (1−β)·x_t        m̂_t = m_t / (1 − βᵗ)

An exponential moving average that starts at zero leans towards zero until it has averaged 1/(1−β) values; dividing
by 1 − βᵗ removes that bias (Kingma & Ba 2015, arXiv 1412.6980, §3), so that a constant stays that constant from
the first step on. A value that is not finite has no weight: both sums leave it out, and 1 − βᵗ becomes the sum of the
weights that were given.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
ENOUGH_STEPS = 50
"""A shorter loss curve shows no trend."""
LEVEL = 0.05
"""Levelled off: over its last fifth the loss falls by less than this share of its whole fall."""
DOUBT = 2
"""Standard errors within which a trend cannot be distinguished from noise."""


def smoothed(values: Floats, factor: float) -> Floats:
    """The debiased moving average at each of [T] values; `factor` is β, from 0 (the values themselves) to below 1. Not
    finite until the first finite value."""
    if factor == 0 or not len(values):
        return values
    finite = np.isfinite(values)
    weighted = _average(np.where(finite, values, 0.0), factor)
    weights = _average(finite.astype(np.float64), factor)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(weights > 0, weighted / weights, np.nan))


def _average(values: Floats, factor: float) -> Floats:
    """The recursion from zero, in plain Python: 100,000 values take 10 ms. scipy.signal has it faster, and its import
    costs every process of the web server a second and 50 MiB."""
    averages = accumulate(values.tolist(), lambda before, value: factor * before + (1 - factor) * value, initial=0.0)
    return np.fromiter(averages, dtype=np.float64, count=len(values) + 1)[1:]


def usual_factor(steps: int) -> float:
    """The β that averages over about a fortieth of a run: it calms a batch's noise and keeps the shape."""
    return 1 - 1 / max(1, steps // 40)


def still_falling(loss: Floats) -> bool | None:
    """Whether a loss, unsmoothed, still falls over its last fifth; None where there are too few steps to tell, or its
    noise could make it either. The noise of a step is that of neighbours' differences."""
    if len(loss) < ENOUGH_STEPS or not np.isfinite(loss).all():
        return None
    fifth = len(loss) // 5
    last, before, first = loss[-fifth:].mean(), loss[-2 * fifth : -fifth].mean(), loss[: fifth // 2].mean()
    doubt = DOUBT * np.diff(loss[-2 * fifth :]).std() / np.sqrt(fifth)
    surely = before - last - LEVEL * max(first - last, 1e-12)
    return bool(surely > 0) if abs(surely) > doubt else None


@dataclass(frozen=True)
class Band:
    """Seeds on one grid, [G] each."""

    x: Floats
    mean: Floats
    low: Floats
    high: Floats
    seeds: NDArray[np.intp]
    """How many have a value there."""

    @property
    def fewer_from(self) -> float | None:
        """Where the first of the seeds ends, if one ends before the others."""
        ended = np.flatnonzero(self.seeds < self.seeds[:1])
        return float(self.x[ended[0]]) if len(ended) else None


def seed_band(curves: Sequence[tuple[Floats, Floats]]) -> Band:
    """Mean, smallest and largest over the seeds' (x, value), x rising, as far as the longest goes.

    Where the seeds share their places (optimizer steps) these are the grid and nothing is changed. Otherwise (epochs,
    tokens, seconds) the grid has as many places as the longest seed, evenly from the first to the last, and each seed
    is read there along straight lines between its values, not beyond its ends.
    """
    curves = [(x, value) for x, value in curves if len(x)]
    if not curves:
        nothing = np.zeros(0)
        return Band(nothing, nothing, nothing, nothing, np.zeros(0, dtype=np.intp))
    longest = max((x for x, _value in curves), key=len)
    if all(np.array_equal(x, longest[: len(x)]) for x, _value in curves):
        grid = longest
        rows = np.full((len(curves), len(grid)), np.nan)
        for row, (_x, value) in zip(rows, curves, strict=True):
            row[: len(value)] = value
    else:
        grid = np.linspace(min(x[0] for x, _v in curves), max(x[-1] for x, _v in curves), len(longest))
        rows = np.stack([np.interp(grid, x, value, left=np.nan, right=np.nan) for x, value in curves])
    finite = np.isfinite(rows)
    seeds = finite.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(seeds > 0, np.where(finite, rows, 0.0).sum(axis=0) / seeds, np.nan)
    low = np.where(seeds > 0, np.where(finite, rows, np.inf).min(axis=0), np.nan)
    high = np.where(seeds > 0, np.where(finite, rows, -np.inf).max(axis=0), np.nan)
    return Band(grid, mean, low, high, seeds)
