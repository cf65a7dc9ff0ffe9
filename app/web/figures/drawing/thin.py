"""A calm version of a curve by a running mean, for its takeaway and for a run's own page."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def smooth(curve: Floats, window: int) -> Floats:
    """Running mean over `window` steps (odd), centred; shorter at the ends. What is not finite is left out.

    O(n), by differences of running sums.
    """
    if window < 2 or len(curve) < 2:
        return curve
    half = min(window, len(curve)) // 2
    finite = np.isfinite(curve)
    total = np.concatenate([[0.0], np.cumsum(np.where(finite, curve, 0.0))])
    count = np.concatenate([[0], np.cumsum(finite)])
    place = np.arange(len(curve))
    low, high = np.maximum(place - half, 0), np.minimum(place + half + 1, len(curve))
    seen = count[high] - count[low]
    return np.where(seen > 0, (total[high] - total[low]) / np.maximum(seen, 1), np.nan)


def window_for(steps: int) -> int:
    """A fortieth of the run, odd: wide enough to calm a batch's noise, narrow enough to keep the shape."""
    return max(1, steps // 40 // 2 * 2 + 1)
