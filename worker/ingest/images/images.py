"""Normalizes images that users upload: every readable one becomes a plain PNG (`app.domain.data.images`).

Pillow decodes them in the ingest process, which has a memory limit. Only these formats are tried: none of them runs
another program (as EPS would) or a script (as SVG would).
"""

import warnings
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, TiffImagePlugin

from app.domain.data.images import (
    HASH_SIDE,
    LONG_SIDE,
    MOST_IMAGE_BYTES,
    MOST_PIXELS,
    MOST_SCANS,
    SHORT_SIDE,
    pixels_hash,
)

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
_OF_16_BITS = 257
_START_OF_SCAN = b"\xff\xda"
"""A marker of JPEG, which does not occur in its coded data."""


class Normalized(NamedTuple):
    png: bytes
    pixels_hash: str
    """Equal images have equal ones, whatever their files."""
    difference_hash: int
    """Images that look alike have ones that differ in few bits."""


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
    """Too much to decode."""


def decoded_pixels(data: bytes) -> int:
    """Pixels that `normalized` decodes of a file, by its header; 0 if it is too large or no image."""
    if len(data) > MOST_IMAGE_BYTES:
        return 0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(BytesIO(data), formats=FORMATS)
            pixels = max(image.width * image.height, _tiled_pixels(image))
    except MemoryError:
        raise
    except Exception:  # as in `normalized`
        return 0
    return pixels if pixels <= MOST_PIXELS else 0


def _normalized(data: bytes) -> Normalized:
    with Image.open(BytesIO(data), formats=FORMATS) as image:
        if image.width * image.height > MOST_PIXELS:
            raise _TooLarge(f"{image.width} × {image.height} px")
        if (tiles := _tiled_pixels(image)) > MOST_PIXELS:
            raise _TooLarge(f"tiles of {tiles:,} px")
        if image.format in ("JPEG", "MPO") and (scans := data.count(_START_OF_SCAN)) > MOST_SCANS:
            raise _TooLarge(f"{scans:,} JPEG scans")
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
    return Normalized(file.getvalue(), pixels_hash(*rgb.size, pixels), difference_hash(rgb))


def difference_hash(image: Image.Image) -> int:
    """128 bits: whether each pixel of an image that is shrunk to 9 × 9 grey ones is darker than its right and than its
    lower neighbour (dHash: Krawetz 2013, "Kind of Like That"; in both directions: Hoyt 2017, "Duplicate image detection
    with perceptual hashing in Python")."""
    grey = thumbnail(image, HASH_SIDE + 1)
    bits = np.concatenate([grey[:-1, :-1] < grey[:-1, 1:], grey[:-1, :-1] < grey[1:, :-1]])
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def thumbnail(image: Image.Image, side: int) -> NDArray[np.uint8]:
    """An image shrunk to [side, side] grey pixels."""
    return np.asarray(image.convert("L").resize((side, side), Image.Resampling.BILINEAR))


def _tiled_pixels(image: Any) -> int:
    """Pixels of all tiles of a TIFF, which may be far more than those of its image: libtiff decodes whole tiles."""
    tags = getattr(image, "tag_v2", {})
    width, height = int(tags.get(TiffImagePlugin.TILEWIDTH, 0)), int(tags.get(TiffImagePlugin.TILELENGTH, 0))
    return width * -(-image.width // width) * height * -(-image.height // height) if width and height else 0


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
