"""Images that users upload: every readable one becomes a plain PNG in RGB, and nothing else is kept."""

import struct
import zlib
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from app.domain.data.images import LONG_SIDE, MOST_IMAGE_BYTES, PNG, SHORT_SIDE, pixels_hash, png_of, size_of
from worker.ingest.images.images import Normalized, decoded_pixels, normalized

SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
HTML = b"<!doctype html><script>alert(1)</script>"


def saved(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def kept(data: bytes) -> Image.Image:
    result = normalized(data)
    assert isinstance(result, Normalized), result
    assert result.png.startswith(PNG)
    image = Image.open(BytesIO(result.png))
    assert image.mode == "RGB" and image.format == "PNG" and not image.info
    assert size_of(result.png) == image.size
    assert result.pixels_hash == pixels_hash(*image.size, image.tobytes())
    return image


def colour(image: Image.Image, at: tuple[int, int] = (0, 0)) -> Any:
    return image.getpixel(at)


def two(mode: str, left: Any, right: Any) -> Image.Image:
    """Two pixels side by side."""
    image = Image.new(mode, (2, 1), right)
    image.putpixel((0, 0), left)
    return image


def test_lossless_formats_keep_their_pixels_and_equal_pixels_are_equal() -> None:
    image = two("RGB", (1, 2, 3), (250, 128, 0))
    results = [normalized(saved(image, form)) for form in ("PNG", "BMP", "TIFF", "PPM")]
    assert len({result.pixels_hash for result in results if isinstance(result, Normalized)}) == 1
    assert kept(saved(image)).tobytes() == image.tobytes()
    webp = kept(saved(image, "WEBP", lossless=True))
    assert webp.tobytes() == image.tobytes()


def test_pngs_and_first_pictures_are_read_without_what_follows() -> None:
    rgb = bytes(range(18))
    image = kept(png_of(3, 2, rgb))
    assert image.size == (3, 2) and image.tobytes() == rgb
    both = [Image.new("RGB", (16, 16), name) for name in ("red", "blue")]
    image = kept(saved(both[0], "MPO", save_all=True, append_images=both[1:]))
    assert colour(image)[0] > 200 > 50 > colour(image)[2]
    result = normalized(saved(Image.new("RGB", (4, 4), "red")) + HTML)
    assert isinstance(result, Normalized) and b"script" not in result.png


def test_a_turned_photograph_is_upright_and_loses_its_metadata() -> None:
    image = two("RGB", (255, 0, 0), (0, 0, 255))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90° to the right
    exif[0x010E] = "secret place"
    data = saved(image, "PNG", exif=exif)
    assert b"secret place" in data
    result = normalized(data)
    assert isinstance(result, Normalized) and b"secret" not in result.png
    upright = kept(data)
    assert upright.size == (1, 2) and [colour(upright, (0, y)) for y in (0, 1)] == [(255, 0, 0), (0, 0, 255)]


def test_transparency_is_on_white() -> None:
    image = kept(saved(two("RGBA", (255, 0, 0, 0), (0, 0, 255, 255))))
    assert [colour(image, (x, 0)) for x in (0, 1)] == [(255, 255, 255), (0, 0, 255)]
    palette = two("P", 0, 1)
    palette.putpalette([0, 255, 0, 0, 0, 255])
    image = kept(saved(palette, transparency=0))
    assert [colour(image, (x, 0)) for x in (0, 1)] == [(255, 255, 255), (0, 0, 255)]
    assert colour(kept(saved(Image.new("LA", (2, 2), (0, 0))))) == (255, 255, 255)


def test_every_colour_space_becomes_8_bit_rgb_or_is_refused() -> None:
    deep = Image.fromarray(np.array([[0, 257 * 100, 65535]], dtype=np.uint16))
    image = kept(saved(deep))
    assert [colour(image, (x, 0)) for x in range(3)] == [(0, 0, 0), (100, 100, 100), (255, 255, 255)]
    found = colour(kept(saved(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "TIFF")))
    assert found == (255, 0, 0)
    assert normalized(saved(Image.new("F", (2, 2), 0.5), "TIFF")) == "floating-point pixels"


@pytest.mark.parametrize(("mode", "value", "rgb"), [("L", 90, (90, 90, 90)), ("1", 1, (255, 255, 255))])
def test_grey_becomes_rgb(mode: str, value: int, rgb: tuple[int, int, int]) -> None:
    assert colour(kept(saved(Image.new(mode, (4, 4), value)))) == rgb


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP"])
def test_of_an_animation_the_first_frame_is_kept(form: str) -> None:
    frames = [Image.new("RGB", (4, 4), name) for name in ("red", "blue")]
    data = saved(
        frames[0], form, save_all=True, append_images=frames[1:], **({"lossless": True} if form != "GIF" else {})
    )
    assert colour(kept(data)) == (255, 0, 0)


@pytest.mark.parametrize(
    "data", [SVG, HTML, b"%!PS-Adobe-3.0 EPSF-3.0\n", b"", b"GIF89a", b"\xff\xd8\xff", PNG, b"PK\x03\x04"]
)
def test_what_is_no_image_is_refused(data: bytes) -> None:
    assert isinstance(normalized(data), str)


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_a_truncated_file_is_refused(form: str) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    whole = saved(noise, form)
    assert isinstance(normalized(whole), Normalized)
    assert isinstance(normalized(whole[: len(whole) // 2]), str)


def test_a_decompression_bomb_is_refused_by_its_header() -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    def bomb(side: int) -> bytes:
        header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        return PNG + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")

    assert normalized(bomb(8000)) == "8000 × 8000 px"
    assert "could be decompression bomb" in str(normalized(bomb(60_000)))  # Pillow's own limit
    assert normalized(b"\0" * (MOST_IMAGE_BYTES + 1)) == f"{MOST_IMAGE_BYTES + 1:,} bytes"


@pytest.mark.parametrize(
    ("size", "tile", "refused"),
    [((4, 4), (46336, 46336), "2,147,024,896"), ((4, 4000), (10_000, 16), "40,000,000"),
     ((4, 8000), (10_000, 16), "80,000,000")],
    ids=["one-huge", "within-the-limit", "many"],
)  # fmt: skip
def test_a_small_tiff_with_huge_tiles_is_refused(size: tuple[int, int], tile: tuple[int, int], refused: str) -> None:
    tags = [(256, size[0]), (257, size[1]), (258, 8), (259, 8), (262, 1), (277, 1), (322, tile[0]), (323, tile[1]),
            (324, 200), (325, 20)]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    data = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0)
    data = data.ljust(200, b"\0") + zlib.compress(b"\0" * 1000)
    within = refused == "40,000,000"
    assert (normalized(data) == f"tiles of {refused} px") != within
    assert decoded_pixels(data) == (40_000_000 if within else 0), "counted like any other image"


def test_the_pixels_of_a_file_are_counted_by_its_header() -> None:
    assert decoded_pixels(saved(Image.new("RGB", (30, 20)))) == 600
    assert decoded_pixels(saved(Image.new("RGB", (30, 20)))[:-30]) == 600, "whatever follows"
    assert [decoded_pixels(data) for data in (b"", HTML, saved(Image.new("1", (8000, 8000))))] == [0, 0, 0]


def test_a_jpeg_of_very_many_scans_is_refused_before_it_is_decoded() -> None:
    data = saved(Image.new("RGB", (64, 64), "red"), "JPEG", progressive=True)
    assert 5 < data.count(b"\xff\xda") < 20 and isinstance(normalized(data), Normalized)
    scans, last = data.count(b"\xff\xda"), data.rindex(b"\xff\xda")
    assert normalized(data[:-2] + data[last:-2] * 100 + data[-2:]) == f"{scans + 100} JPEG scans"
    in_png = saved(Image.frombytes("RGB", (200, 200), b"\xff\xda\xff" * 40_000), "PNG", compress_level=0)
    assert isinstance(normalized(in_png), Normalized), "other formats have no such marker"


def test_texts_and_profiles_of_a_png_that_unpack_to_far_more_are_refused() -> None:
    plain, huge = saved(Image.new("RGB", (4, 4), "red")), zlib.compress(b"\0" * 50_000_000)
    for kind in (b"iCCP", b"zTXt"):
        body = kind + b"x\0\0" + huge
        chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
        assert "too large" in str(normalized(plain[:33] + chunk + plain[33:]))


@pytest.mark.parametrize(
    ("size", "wanted"),
    [((1024, 700), (749, SHORT_SIDE)), ((SHORT_SIDE,) * 2, (SHORT_SIDE,) * 2), ((5000, 10), (LONG_SIDE, 4))],
)
def test_large_images_are_reduced(size: tuple[int, int], wanted: tuple[int, int]) -> None:
    assert kept(saved(Image.new("RGB", size, (10, 20, 30)))).size == wanted
