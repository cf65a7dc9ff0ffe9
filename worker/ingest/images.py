"""Normalizes images that users upload: every readable one becomes a plain PNG (`app.domain.data.images`).

Pillow decodes them in the ingest process, which has a memory limit. Only these formats are tried: none of them runs
another program (as EPS would) or a script (as SVG would).
"""

import warnings
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps, TiffImagePlugin

from app.domain.data.images import LONG_SIDE, MOST_IMAGE_BYTES, MOST_PIXELS, SHORT_SIDE, pixels_hash

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
_OF_16_BITS = 257


class Normalized(NamedTuple):
    """An image as datasets have it."""

    png: bytes
    pixels_hash: str
    """Equal images have equal ones, whatever their files."""


def normalized(data: bytes) -> Normalized | str:
    """The image of a file; or why there is none, as Pillow says it, or as its size."""
    if len(data) > MOST_IMAGE_BYTES:
        return f"{len(data):,} bytes"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about sizes, which are checked here, and about metadata
            return _normalized(data)
    except MemoryError:
        raise
    except _TooLarge as error:
        return str(error)
    except Exception as error:  # a damaged file may raise anything
        return " ".join(str(error).split("<")[0].split()) or type(error).__name__


class _TooLarge(Exception):
    """Too many pixels to decode."""


def _normalized(data: bytes) -> Normalized:
    with Image.open(BytesIO(data), formats=FORMATS) as image:
        if image.width * image.height > MOST_PIXELS:
            raise _TooLarge(f"{image.width} × {image.height} px")
        if (tile := _tile_pixels(image)) > MOST_PIXELS:
            raise _TooLarge(f"a tile of {tile:,} px")
        image.load()  # the first frame
        ImageOps.exif_transpose(image, in_place=True)
        rgb = _in_rgb(image)
    short, long = sorted(rgb.size)
    scale = min(1.0, SHORT_SIDE / short, LONG_SIDE / long)
    if scale < 1:
        width, height = (max(1, round(side * scale)) for side in rgb.size)
        rgb = rgb.resize((width, height), Image.Resampling.LANCZOS)
    pixels, file = rgb.tobytes(), BytesIO()
    Image.frombytes("RGB", rgb.size, pixels).save(file, "PNG")  # a new image: without metadata
    return Normalized(file.getvalue(), pixels_hash(*rgb.size, pixels))


def _tile_pixels(image: Any) -> int:
    """Pixels of a tile of a TIFF, which may be far larger than its image: libtiff decodes whole tiles."""
    tags = getattr(image, "tag_v2", {})
    return int(tags.get(TiffImagePlugin.TILEWIDTH, 0)) * int(tags.get(TiffImagePlugin.TILELENGTH, 0))


def _in_rgb(image: Any) -> Image.Image:
    """8 bits per channel, transparency on white. Raises ValueError for images of fractions."""
    if image.mode == "F":
        raise ValueError("floating-point pixels")
    if image.mode.startswith("I"):  # 16 bits, or 32 with 16 in use, of which Pillow would cut off all above 255
        values = np.divide(np.asarray(image), _OF_16_BITS, dtype=np.float32)
        image = Image.fromarray(np.clip(np.rint(values, out=values), 0, 255, out=values).astype(np.uint8))
    if image.has_transparency_data:
        opaque = Image.new("RGBA", image.size, "white")
        opaque.alpha_composite(image if image.mode == "RGBA" else image.convert("RGBA"))
        image = opaque
    converted: Image.Image = image.convert("RGB")
    return converted
