"""Previews of images as a model sees them: resized and cropped by its image processor, before normalization."""

from base64 import b64encode
from collections.abc import Sequence
from typing import Any

from app.domain.data.dataset import ImageRow, Row
from app.domain.data.images import png_of, size_of
from app.domain.data.previews import PREVIEWED_ROWS, PreviewRow
from worker.engine.data.images import opened, resized
from worker.engine.data.stored_images import pngs


def previewed(processor: Any, rows: Sequence[Row]) -> list[PreviewRow]:
    """The first rows. Raises `RunFailed` for a damaged image."""
    images = [row for row in rows if isinstance(row, ImageRow)][:PREVIEWED_ROWS]
    shown = []
    for place, image in pngs(images):
        row = images[place]
        [pixels] = resized(processor, [opened(image)])
        _channels, height, width = pixels.shape
        png = png_of(width, height, pixels.transpose(1, 2, 0).tobytes())
        shown.append(
            PreviewRow(
                item=row.item,
                split=row.split,
                label=row.label,
                tokens=[],
                length=0,
                kept=0,
                image=f"data:image/png;base64,{b64encode(png).decode()}",
                seen_size=(width, height),
                stored_size=size_of(image),
            )
        )
    return shown
