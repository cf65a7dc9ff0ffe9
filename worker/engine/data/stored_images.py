"""The images of rows, a few at a time: those of a dataset may take more room than memory has."""

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from app.domain.data.dataset import ImageRow, Row, StoredImage
from worker.engine.data.batches.batches import unreadable_dataset

_TOGETHER = 64
"""Images that are in memory at a time."""
_BUFFER = 1 << 20
"""Bytes that are read of a file at a time. Buffered in advance (`pre_buffer`), all of it would stay in memory."""


def pngs(rows: Sequence[Row]) -> Iterator[tuple[int, bytes]]:
    """The PNG of every row with its place among `rows`, in the order of their file, which is read once. Raises
    `RunFailed` if it cannot be read."""
    stored: dict[str, list[tuple[int, int]]] = {}
    for place, row in enumerate(rows):
        assert isinstance(row, ImageRow)  # noqa: S101 the format has no others
        if isinstance(row.image, StoredImage):
            stored.setdefault(row.image.file, []).append((row.image.place, place))
        else:
            yield place, row.image
    for file, places in stored.items():
        try:
            yield from _of_file(file, sorted(places))
        except (OSError, pa.ArrowException) as error:
            raise unreadable_dataset(error, file) from error


def _of_file(file: str, places: Sequence[tuple[int, int]]) -> Iterator[tuple[int, bytes]]:
    """`places`: rows of the file in order, each with its place among the wanted ones."""
    start, wanted = 0, iter(places)
    number, place = next(wanted)
    with pq.ParquetFile(file, buffer_size=_BUFFER, pre_buffer=False) as source:
        for batch in source.iter_batches(batch_size=_TOGETHER, columns=["image"]):
            images = batch.column(0)
            while number < start + len(images):
                yield place, images[number - start].as_py() or b""
                if (following := next(wanted, None)) is None:
                    return
                number, place = following
            start += len(images)
