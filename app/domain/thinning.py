"""Fewer points for the same picture: Largest-Triangle-Three-Buckets (Steinarsson 2013, University of Iceland).

Statistics are computed on full data; thinning is for pixels only.
"""

import numpy as np
from numpy.typing import NDArray


def lttb(x: NDArray[np.float64], y: NDArray[np.float64], points: int) -> NDArray[np.intp]:
    """Indices of at most `points` of the n points (x, y), x rising; the first and the last are always among them.

    Of each bucket the point is kept that spans the largest triangle with the point kept before and the mean of
    the bucket after. Values that are not finite count as zero. O(n).
    """
    n = len(x)
    if points >= n or points < 3:
        return np.arange(n) if points >= n else np.unique(np.linspace(0, n - 1, max(points, 1)).astype(np.intp))
    y = np.nan_to_num(y, nan=0.0, posinf=0.0, neginf=0.0)
    edges = np.linspace(1, n - 1, points - 1).astype(np.intp)
    sizes = np.diff(edges, append=n)
    x_means, y_means = (np.add.reduceat(values, edges) / sizes for values in (x, y))
    kept, x_kept, y_kept = [0], float(x[0]), float(y[0])
    bounds, x_after, y_after = edges.tolist(), x_means[1:].tolist(), y_means[1:].tolist()
    for start, stop, x_next, y_next in zip(bounds, bounds[1:], x_after, y_after, strict=False):
        # twice the triangle's area, but for its sign
        area = (x_kept - x_next) * (y[start:stop] - y_kept) + (y_next - y_kept) * (x[start:stop] - x_kept)
        chosen = start + int(np.abs(area).argmax())
        kept.append(chosen)
        x_kept, y_kept = float(x[chosen]), float(y[chosen])
    kept.append(n - 1)
    return np.array(kept, dtype=np.intp)


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
