"""`vezna predict` for a classifier of images: the labels of an image, or of all images in a directory, as CSV."""

import csv
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from app.cli.client import Client
from app.domain.data.images import READ_ENDINGS
from app.domain.errors import Invalid
from app.features.serving.rules import MOST_PICTURE_BYTES, MOST_PICTURES
from app.words.i18n import gettext as _

BATCH_BYTES = 5 << 20
"""Of the files of a request: two thirds of what a server takes, which base64 fills."""
Row = dict[str, Any]


def images_of(path: Path) -> list[Path]:
    """The image, or the images in a directory and below it. Raises Invalid without any, and for one that is too
    large."""
    images = [path]
    if path.is_dir():
        images = sorted(file for file in path.rglob("*") if file.suffix.lower() in READ_ENDINGS and file.is_file())
    if not images:
        raise Invalid(_("%(path)s has no images, such as PNG or JPEG.", path=path))
    for image in images:
        try:
            size = image.stat().st_size
        except OSError as error:
            raise Invalid(_("%(file)s cannot be read: %(why)s.", file=image, why=error.strerror)) from error
        if not 0 < size <= MOST_PICTURE_BYTES:
            most = MOST_PICTURE_BYTES >> 20
            raise Invalid(_("%(file)s is empty or has more than %(most)s MiB. Shrink it.", file=image, most=most))
    return images


def batches(images: list[Path]) -> Iterator[list[Path]]:
    batch: list[Path] = []
    size = 0
    for image in images:
        if batch and (len(batch) == MOST_PICTURES or size + image.stat().st_size > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(image)
        size += image.stat().st_size
    yield batch


def predictions(client: Client, run: int, batch: list[Path], seconds: float) -> list[Row]:
    """The predictions for images, in their order. Raises Invalid that names files."""
    inputs = [{"image": b64encode(image.read_bytes()).decode()} for image in batch]
    try:
        found: list[Row] = client.ask(f"/runs/{run}/predict", {"inputs": inputs}, seconds)["predictions"]
    except Invalid as error:
        lines = []
        for field in error.fields:
            name, _dot, place = field.path.partition(".")
            where = str(batch[int(place.split(".")[0])]) if name == "inputs" and place else field.path
            lines.append(f"{where}: {field.sentence}")
        raise Invalid("\n".join(lines) or error.message) from error
    return found


def write(sink: IO[str], images: list[Path], found: list[Row]) -> None:
    """CSV with a row for each image: its path, its label, and the probability of each label."""
    labels = list(found[0]["probabilities"])
    writer = csv.writer(sink)
    writer.writerow(["file", "predicted_label", *(f"probability_{label}" for label in labels)])
    for image, one in zip(images, found, strict=True):
        writer.writerow([image, one["label"], *(one["probabilities"][label] for label in labels)])
