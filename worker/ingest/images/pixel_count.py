"""The pixels of an upload's images, counted by their headers before any is decoded.

Files of a kilobyte may be images of 50 megapixels, and an upload has room for a great many of them.
"""

from importlib import import_module

from app.domain.data.images import MOST_UPLOAD_PIXELS, SHORT_SIDE
from app.domain.messages import _
from worker.ingest.readers.batches import Batch, Unreadable


class PixelCount:
    """Counts over all batches of an upload."""

    def __init__(self) -> None:
        self._pixels = 0

    def add(self, batch: Batch, file: str) -> None:
        """Count the images of a batch. Raises Unreadable once all images so far have too many pixels."""
        for values in batch.columns.values():
            for row, value in zip(batch.rows, values, strict=True):
                if isinstance(value, bytes):
                    images = import_module("worker.ingest.images.images")  # it needs Pillow, as no other rows do
                    self._pixels += images.decoded_pixels(value)
                    if self._pixels > MOST_UPLOAD_PIXELS:
                        raise Unreadable(_too_many(file, row))


def _too_many(file: str, row: int) -> str:
    return _(
        "The images of this upload have more than %(limit)s megapixels by image %(row)s of %(name)s, and Vezna decodes "
        "at most that many, because it takes hours. Shrink them to %(side)s pixels on the shorter side, of which Vezna "
        "keeps no more, or upload fewer.",
        limit=f"{MOST_UPLOAD_PIXELS // 10**6:,}",
        row=f"{row:,}",
        name=file,
        side=SHORT_SIDE,
    )
