"""Fewer points for the same picture: Largest-Triangle-Three-Buckets (Steinarsson 2013, University of Iceland).

Statistics are computed on full data; thinning is for pixels only.
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


def extremes(y: NDArray[np.float64], buckets: int) -> NDArray[np.intp]:
    """Indices of the smallest and the largest of each of `buckets` runs of neighbours, in order, with the first and the
    last: at most 2·buckets + 2 of n. What a line through all the points covers, a line through these covers too, so
    that no spike is lost. Values that are not finite are passed over. O(n), without a loop.
    """
    n = len(y)
    if n <= 2 * buckets + 2:
        return np.arange(n)
    starts = bucket_starts(n, buckets)
    size = np.diff(np.append(starts, n))
    place = np.arange(size.max())
    at = np.minimum(starts[:, None] + place, n - 1)
    inside = (place < size[:, None]) & np.isfinite(y[at])
    least = np.where(inside, y[at], np.inf).argmin(axis=1)
    most = np.where(inside, y[at], -np.inf).argmax(axis=1)
    return np.unique(np.concatenate([[0, n - 1], starts + least, starts + most]))


def bucket_starts(n: int, buckets: int) -> NDArray[np.intp]:
    """Where each of `buckets` runs of neighbours among n begins, as equal as may be."""
    return np.unique(np.linspace(0, n, min(buckets, n), endpoint=False).astype(np.intp))
