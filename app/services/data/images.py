"""Single images of a dataset, read from the file of its rows."""

from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from app.domain.data.images import PNG
from app.domain.errors import Invalid, NotFound
from app.domain.messages import _
from app.store.files.files import Files
from app.store.tables import DatasetRow

_KEPT = 4
"""Files whose items are kept in memory, 20 bytes an item: a page shows many images of one dataset."""


def image_of(files: Files, dataset: DatasetRow, item: str) -> bytes:
    """The PNG of an item. Reads the images of its row group and, the first time, the names of all items. Raises
    NotFound without such an image, and Invalid for a file that cannot be read."""
    if dataset.status == "ready" and dataset.facts.format == "labelled-images":
        try:
            image = _found(files, dataset.file, item)
        except (OSError, pa.ArrowException) as error:
            why = " ".join(str(error).split())[:200] or type(error).__name__
            raise Invalid(_("The rows of %(name)s cannot be read (%(why)s).", name=dataset.name, why=why)) from error
        if image.startswith(PNG):
            return image
    raise NotFound(_("%(name)s has no image %(item)r.", name=dataset.name, item=item))


def _found(files: Files, name: str, item: str) -> bytes:
    names, ends = _items(files, name)
    place = pc.index(names, item).as_py()
    if place < 0:
        return b""
    group = int(np.searchsorted(ends, place, side="right"))
    with files.open(name) as file:
        images = pq.ParquetFile(file).read_row_group(group, columns=["image"]).column("image")
        image: bytes = images[place - int(ends[group])].as_py()  # from the end of the group
        return image


@lru_cache(maxsize=_KEPT)
def _items(files: Files, name: str) -> tuple[pa.ChunkedArray, NDArray[np.int64]]:
    """The items of a file in order, and the index after the last one of each row group. A file never changes."""
    with files.open(name) as file:
        rows = pq.ParquetFile(file)
        sizes = [rows.metadata.row_group(group).num_rows for group in range(rows.num_row_groups)]
        return rows.read(columns=["item"]).column("item").combine_chunks(), np.cumsum(sizes)
