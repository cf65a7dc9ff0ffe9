"""Statistics of curves, on every step: what is then thinned for pixels by `app.domain.thinning` has lost nothing."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def smooth(curve: Floats, window: int) -> Floats:
    """Running mean over `window` steps, centred; shorter at the ends. What is not finite is left out of the means."""
    if window < 2 or len(curve) < 2:
        return curve
    finite = np.isfinite(curve)
    kernel = np.ones(min(window, len(curve)))
    total = np.convolve(np.where(finite, curve, 0.0), kernel, mode="same")
    count = np.convolve(finite.astype(float), kernel, mode="same")
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def window_for(steps: int) -> int:
    """A fortieth of the run, odd: wide enough to calm a batch's noise, narrow enough to keep the shape."""
    return max(1, steps // 40 // 2 * 2 + 1)


def bands(curves: Sequence[Floats]) -> tuple[Floats, Floats, Floats]:
    """Mean, smallest and largest over curves, as far as the shortest goes."""
    shared = np.stack([c[: min(map(len, curves))] for c in curves])
    return shared.mean(axis=0), shared.min(axis=0), shared.max(axis=0)


def extremes(low: Floats, high: Floats, at: NDArray[np.intp]) -> tuple[Floats, Floats]:
    """For thinned points, the smallest and largest of all the steps between one and the next: no spike is lost."""
    if not len(at):
        return low[:0], high[:0]
    return np.minimum.reduceat(low, at), np.maximum.reduceat(high, at)
