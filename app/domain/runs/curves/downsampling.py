"""Fewer points for the same picture: Largest-Triangle-Three-Buckets (Steinarsson 2013, University of Iceland).

Statistics are computed on full data; downsampling is for the eye only.
"""

import numpy as np
from numpy.typing import NDArray
from tsdownsample import LTTBDownsampler


def lttb(x: NDArray[np.float64], y: NDArray[np.float64], points: int) -> NDArray[np.intp]:
    """Indices of at most `points` (3 or more) of the n points (x, y), x rising; the first and the last are always among
    them.

    Of each bucket the point is kept that spans the largest triangle with the point kept before and the mean of
    the bucket after. Values that are not finite count as lying on the line between their neighbours, so that they are
    kept for nothing but their place. O(n).
    """
    finite = np.isfinite(y)
    if not finite.all():
        y = np.interp(x, x[finite], y[finite]) if finite.any() else np.zeros_like(x)
    kept: NDArray[np.intp] = LTTBDownsampler().downsample(x, y, n_out=points).astype(np.intp)
    return kept
