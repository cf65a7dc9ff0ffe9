"""Single images of a dataset, read from the file of its rows."""

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from app.domain.data.images import PNG
from app.domain.errors import Invalid, NotFound
from app.domain.messages import _
from app.store.files import Files
from app.store.tables import DatasetRow


def image_of(files: Files, dataset: DatasetRow, item: str) -> bytes:
    """The PNG of an item. Reads the names of items until it is found, and the images of its row group. Raises NotFound
    without such an image, and Invalid for a file that cannot be read."""
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
    with files.open(name) as file:
        rows = pq.ParquetFile(file)
        for group in range(rows.num_row_groups):
            place = pc.index(rows.read_row_group(group, columns=["item"]).column("item"), item).as_py()
            if place >= 0:
                image: bytes = rows.read_row_group(group, columns=["image"]).column("image")[place].as_py()
                return image
    return b""
