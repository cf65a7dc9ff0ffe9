"""Near duplicates of images in different splits: saved again, resized, brightened, or cropped by a little.

Two images are near duplicates if their difference hashes (`worker.ingest.images.images`) differ in at most `MOST_BITS`
of 128 bits and their thumbnails of 16 × 16 grey pixels have a correlation of at least `LEAST_CORRELATION`. The hash
finds the nearest training image, and the correlation rules out drawings whose plain background gives them nearly equal
hashes."""

from collections.abc import Iterator
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from worker.ingest.findings.rows import Pair, Places
from worker.ingest.images.images import thumbnail
from worker.ingest.rows.gathered import Gathered

MOST_BITS, LEAST_CORRELATION = 10, 0.99
_TOGETHER = 64
"""Rows whose distances to all training rows are in memory at a time: 13 MB for each 100,000."""
_SIDE = 16


def near(gathered: Gathered, held_out: Places, trained: Places) -> list[Pair]:
    """Each held-out image whose nearest training image is a near duplicate."""
    candidates = list(_candidates(gathered.difference_hashes, held_out, trained))
    places = np.unique(np.array(candidates, dtype=np.int64))
    thumbnails = {place: _standardized(png) for place, png in gathered.shown(places)}
    pairs = [Pair(one, other, float(thumbnails[one] @ thumbnails[other])) for one, other in candidates]
    return [pair for pair in pairs if pair.alike >= LEAST_CORRELATION]


def _candidates(hashes: NDArray[np.uint64], held_out: Places, trained: Places) -> Iterator[tuple[int, int]]:
    """Each held-out row with the training row whose hash differs least, in at most `MOST_BITS`."""
    if not len(trained):
        return
    of_trained = hashes[trained]
    for start in range(0, len(held_out), _TOGETHER):
        some = held_out[start : start + _TOGETHER]
        distances = sum(np.bitwise_count(hashes[some, word, None] ^ of_trained[:, word]) for word in (0, 1))
        nearest = np.argmin(distances, axis=1)
        for row, column in enumerate(nearest.tolist()):
            if distances[row, column] <= MOST_BITS:
                yield int(some[row]), int(trained[column])


def _standardized(png: bytes) -> NDArray[np.float64]:
    """[256] grey values with mean 0 and length 1, whose dot products are correlations; zeros of a plain image."""
    with Image.open(BytesIO(png), formats=["PNG"]) as image:
        values = thumbnail(image, _SIDE).astype(np.float64).ravel()
    values -= values.mean()
    length = np.linalg.norm(values)
    return values / length if length else values
