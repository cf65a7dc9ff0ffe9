"""Images of datasets: which are accepted, how they are kept, and their identity.

Every image becomes a PNG in RGB with 8 bits per channel, upright and without metadata, whatever format it came in, so
that equal pixels are equal rows, and the pages serve nothing that a user wrote.
"""

import hashlib
import struct
import zlib

MOST_PIXELS = 50_000_000
"""Pixels of an image before it is decoded: 150 MB in memory."""
MOST_IMAGE_BYTES = 32 << 20
MOST_UPLOAD_PIXELS = 200_000_000_000
"""Pixels of all images of an upload: three hours of decoding at 18 million a second, the slowest measured (lossy
WebP)."""
MOST_SCANS = 100
READ_ENDINGS = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
UNREAD_ENDINGS = (
    *(".heic", ".heif", ".avif", ".jxl", ".jp2", ".svg", ".eps", ".psd", ".xcf", ".ico", ".dcm"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf"),
)
SHORT_SIDE, LONG_SIDE = 512, 2048
"""Pixels: a larger image is reduced until its shorter and its longer side have at most these. Models read 224 to 512
pixels."""
HASH_SIDE = 8
"""A difference hash compares so many grey pixels a side with their right and their lower neighbours: 128 bits."""
HASH_BITS = 2 * HASH_SIDE**2
PNG = b"\x89PNG\r\n\x1a\n"
"""The first bytes of a PNG."""


def pixels_hash(width: int, height: int, rgb: bytes) -> str:
    """The identity of an image, SHA-256 in hex: of its size and its pixels, [height, width, 3] bytes."""
    return hashlib.sha256(struct.pack(">II", width, height) + rgb).hexdigest()


def size_of(png: bytes) -> tuple[int, int]:
    """Width and height of a PNG, from its first chunk."""
    width, height = struct.unpack(">II", png[16:24])
    return width, height


def png_of(width: int, height: int, rgb: bytes) -> bytes:
    """The pixels [height, width, 3] as a PNG, without a library of images (PNG specification, 3rd edition, W3C)."""
    lines = b"".join(b"\0" + rgb[row * width * 3 : (row + 1) * width * 3] for row in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return PNG + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(lines, 9)) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
