"""Images in a zip archive or in Parquet: classes, splits, duplicates, and what is left out or blocks."""

import json
import struct
import zipfile
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageEnhance, ImageOps
from sklearn.datasets import load_sample_image

from app.domain.data.dataset import ImageRow
from app.domain.data.findings import Details
from app.domain.data.guesses.mapping import ColumnMapping
from app.domain.data.images import png_of, size_of
from app.domain.data.uploads import ReadingOptions
from tests.support.ingested import by_code, ignore_progress, local, prepared, scanned
from tests.support.tiny import images as tiny_images
from worker.engine.data.batches.batches import read
from worker.engine.data.images import opened, pngs
from worker.ingest.images import pixel_count
from worker.ingest.prepare import prepare
from worker.ingest.readers import image_folder
from worker.ingest.readers.batches import Unreadable

IMAGES = ColumnMapping(format="labelled-images", columns={"image": "image", "label": "label"})
PICTURES = [png_of(*tiny_images.picture(place)) for place in range(120)]


def zipped(files: dict[str, bytes]) -> bytes:
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


def folders(prefix: str = "", count: int = 120) -> dict[str, bytes]:
    """A picture of each class in turn, in its directory."""
    return {f"{prefix}{tiny_images.LABELS[i % 3]}/{i:03}.png": PICTURES[i] for i in range(count)}


def written(tmp_path: Path) -> list[ImageRow]:
    rows = [row for rows in read(str(tmp_path / "rows.parquet"), "labelled-images").values() for row in rows]
    return [rows[place]._replace(image=png) for place, png in pngs(rows)]  # type: ignore[call-arg, misc]


@pytest.mark.parametrize("prefix", ["", "colours/", "some/folder/"])
def test_the_directories_of_an_archive_are_the_classes(prefix: str, tmp_path: Path) -> None:
    others = {f"{prefix}red/Thumbs.db": b"x", "__MACOSX/red/._1.png": b"x", f"{prefix}red/.DS_Store": b"x"}
    content = zipped(folders(prefix) | others)
    scan = scanned(tmp_path, content, "colours.zip")
    assert (scan.mapping, scan.findings) == (IMAGES, [])
    found = prepared(tmp_path, {"colours.zip": content})
    assert found.facts is not None
    assert (found.facts.labels, found.facts.format) == (tiny_images.LABELS, "labelled-images")
    assert found.facts.label_counts == dict.fromkeys(tiny_images.LABELS, 40)
    assert found.facts.counts == {"train": 96, "validation": 12, "test": 12}
    assert found.facts.tasks == ["image-classification"] and not found.findings[1:], "only a small test split"
    assert all(size_of(row.image) == (12, 10) for row in written(tmp_path))
    same = prepared(tmp_path, {"colours.zip": zipped(dict(reversed(folders(prefix).items())))})
    assert same.facts is not None and {row.item for row in written(tmp_path)} == {
        row.item for row in tiny_images.rows(120, 0, 0)
    }, "an item is named by its pixels"


def test_files_that_are_not_read_are_counted_and_named(tmp_path: Path) -> None:
    notes = {"README.md": b"x", "red/Licence.TXT": b"x", "more.txt": b"x"}
    [finding] = scanned(tmp_path, zipped(folders() | notes), "colours.zip").findings
    assert (finding.code, finding.severity, finding.count, finding.column) == ("skipped-files", "notes", 3, "image")
    assert (finding.details.labels, finding.details.label_rows) == ([".txt", ".md"], [2, 1])
    assert [example.excerpt for example in finding.examples] == list(notes)
    [finding] = scanned(tmp_path, zipped(folders() | {"red/IMG_1.HEIC": b"x"}), "colours.zip").findings
    assert (finding.severity, finding.details.labels) == ("warns", [".heic"]), "images are missing"


def test_very_many_pixels_are_refused_before_they_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = zipped(folders())
    scan = scanned(tmp_path, content, "colours.zip")
    monkeypatch.setattr(pixel_count, "MOST_UPLOAD_PIXELS", 120 * 120)
    assert scanned(tmp_path, content, "colours.zip").rows == 120, "just within the limit"
    monkeypatch.setattr(pixel_count, "MOST_UPLOAD_PIXELS", 119 * 120)
    says = "more than 0 megapixels by image 120 of colours.zip.* takes hours. Shrink them to 512 pixels"
    with pytest.raises(Unreadable, match=says):
        scanned(tmp_path, content, "colours.zip")
    parts = local(tmp_path, {"colours.zip": content})
    with pytest.raises(Unreadable, match=says):  # uploads that were scanned before the limit was lowered
        prepare(parts, ReadingOptions(), IMAGES, scan.splitting, tmp_path / "rows.parquet", ignore_progress)
    two = {"train.zip": zipped(folders(count=60)), "test.zip": zipped(folders())}
    with pytest.raises(Unreadable, match=r"by image 60 of test.zip"):  # together
        prepared(tmp_path, two)


def test_directories_above_the_classes_name_the_splits(tmp_path: Path) -> None:
    names = list(folders())
    files = {f"data/{'train' if i < 90 else 'val' if i < 105 else 'test'}/{name}": PICTURES[i]
             for i, name in enumerate(names)}  # fmt: skip
    scan = scanned(tmp_path, zipped(files), "colours.zip")
    assert (scan.splitting.kind, scan.splitting.column) == ("predefined", "split")
    found = prepared(tmp_path, {"colours.zip": zipped(files)})
    assert found.facts is not None and found.facts.counts == {"train": 90, "validation": 15, "test": 15}


def test_parquet_of_the_datasets_library_is_read(tmp_path: Path) -> None:
    features = {"label": {"_type": "ClassLabel", "names": tiny_images.LABELS}, "image": {"_type": "Image"}}
    table = pa.table({
        "image": [{"bytes": picture, "path": None} for picture in PICTURES], "label": [i % 3 for i in range(120)],
    })  # fmt: skip
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, tmp_path / "a.parquet")
    content = (tmp_path / "a.parquet").read_bytes()
    scan = scanned(tmp_path, content, "a.parquet")
    assert scan.mapping == IMAGES and [column.kind for column in scan.columns] == ["image", "text"]
    assert scan.columns[0].examples[0].endswith("bytes)")
    found = prepared(tmp_path, {"a.parquet": content})
    assert found.facts is not None and found.facts.label_counts == dict.fromkeys(tiny_images.LABELS, 40)


def test_a_binary_column_with_the_usual_name_is_read(tmp_path: Path) -> None:
    labels = [tiny_images.LABELS[i % 3] for i in range(120)]
    pq.write_table(pa.table({"img": PICTURES, "class": labels, "vector": PICTURES}), tmp_path / "a.parquet")
    scan = scanned(tmp_path, (tmp_path / "a.parquet").read_bytes(), "a.parquet")
    assert [column.name for column in scan.columns] == ["img", "class"], "other binary columns are passed over"
    assert scan.mapping == ColumnMapping(format="labelled-images", columns={"image": "img", "label": "class"})


def test_images_without_a_column_of_classes_are_explained(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": PICTURES[:30]}), tmp_path / "a.parquet")
    scan = scanned(tmp_path, (tmp_path / "a.parquet").read_bytes(), "a.parquet")
    assert scan.mapping is None and "'image' has images, and no column names their classes" in scan.reason


def test_equal_pixels_in_two_splits_leak_and_with_two_labels_contradict(tmp_path: Path) -> None:
    bitmap = BytesIO()
    opened(PICTURES[0]).save(bitmap, "BMP")
    files = {f"train/{name}": content for name, content in folders(count=110).items()}
    files |= {f"test/red/{i}.png": PICTURES[i] for i in range(110, 120)} | {"test/green/copy.bmp": bitmap.getvalue()}
    found = prepared(tmp_path, {"colours.zip": zipped(files)})
    codes = by_code(found.findings)
    assert codes["leak"].count == 1 and codes["leak"].severity == "blocks", "1 of 11 test rows"
    assert codes["contradictions"].count == 1
    assert codes["leak"].examples[0].excerpt == "12 × 10 px"


def photographs() -> list[Image.Image]:
    """Parts of a photograph that do not overlap, 100 × 100 pixels each."""
    whole = Image.fromarray(load_sample_image("china.jpg"))
    return [whole.crop((x, y, x + 100, y + 100)) for y in range(0, 400, 100) for x in range(0, 600, 100)]


def png(image: Image.Image, form: str = "PNG", **options: int) -> bytes:
    file = BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def test_near_duplicates_of_images_are_found_across_splits(tmp_path: Path) -> None:
    parts = photographs()
    train = {f"train/{'ab'[i % 2]}/{i}.png": png(part) for i, part in enumerate(parts)}
    again = {
        "jpeg": png(parts[12], "JPEG", quality=60),
        "half": png(parts[23].resize((50, 50))),
        "brighter": png(ImageEnhance.Brightness(parts[20]).enhance(1.1)),
    }
    mirrored = {f"mirrored-{i}": png(ImageOps.mirror(part)) for i, part in enumerate(parts)}
    test = {f"test/a/{name}.img.png": content for name, content in (again | mirrored).items()}
    found = prepared(tmp_path, {"photos.zip": zipped(train | test)})
    near = by_code(found.findings)["near-leak"]
    assert (near.severity, near.count, near.details) == ("warns", 3, Details(shared=0.99, limit=10))
    assert {(example.split, example.excerpt) for example in near.examples} == {
        ("test", "100 × 100 px"), ("test", "50 × 50 px"), ("train", "100 × 100 px"),
    }  # fmt: skip
    assert len(near.examples) == 6, "both images of every pair"
    assert "leak" not in by_code(found.findings)


def test_equal_hashes_of_drawings_make_no_near_duplicates(tmp_path: Path) -> None:
    def drawn(shade: int, at: tuple[int, int]) -> bytes:
        image = Image.new("L", (64, 64), 255)
        image.paste(shade, (*at, at[0] + 8, at[1] + 8))
        return png(image)

    places = [(8 * x, 8 * y) for x in range(8) for y in range(8)]
    train = {f"train/{'ab'[i % 2]}/{i}.png": drawn(0, place) for i, place in enumerate(places)}
    test = {f"test/a/{i}.png": drawn(255 - i, (4, 4)) for i in range(20)}  # one of them is plain
    found = prepared(tmp_path, {"drawings.zip": zipped(train | test)})
    assert "near-leak" not in by_code(found.findings)


def test_unreadable_images_are_left_out_and_many_block(tmp_path: Path) -> None:
    few = folders() | {"red/broken.png": b"<svg/>"}
    found = prepared(tmp_path, {"colours.zip": zipped(few)})
    broken = by_code(found.findings)["broken-images"]
    assert (broken.count, broken.severity, broken.column) == (1, "warns", "image")
    assert broken.examples[0].excerpt.startswith("red: cannot identify image")
    assert found.facts is not None and sum(found.facts.counts.values()) == 120
    many = folders() | {f"red/broken{i}.png": b"<svg/>" for i in range(7)}
    blocked = prepared(tmp_path, {"colours.zip": zipped(many)})
    assert blocked.facts is None and by_code(blocked.findings)["broken-images"].severity == "blocks"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (zipped({"a.png": PICTURES[0]}), "has no images in directories named by their classes"),
        (zipped({"train/a.png": PICTURES[0]}), "has no images in directories named by their classes"),
        (
            zipped({"red/a.heic": b"x", "red/b.HEIC": b"x", "README": b"x"}),
            r"no image that Vezna reads, only files of other formats: \.heic \(2\), README \(1\)\. Save the images as",
        ),
        (zipped({"red/.DS_Store": b"x"}), "has no images in directories named by their classes"),
        (zipped(folders(count=3))[:-30], "is damaged and cannot be read as a zip archive"),
        (b"red,1", "is named as Zip but does not begin like such a file"),
    ],
    ids=["no-directory", "only-a-split", "other-formats", "hidden", "truncated", "no-archive"],
)
def test_an_archive_that_cannot_be_read_is_refused(content: bytes, says: str, tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match=says):
        scanned(tmp_path, content, "colours.zip")


def test_a_damaged_or_encrypted_entry_is_named(tmp_path: Path) -> None:
    content = bytearray(zipped(folders(count=3)))
    place = content.find(PICTURES[1])
    content[place + 40] ^= 0xFF
    with pytest.raises(Unreadable, match=r"green/001.png is damaged .*CRC"):
        scanned(tmp_path, bytes(content), "colours.zip")
    locked = bytearray(zipped(folders(count=3)))
    central = locked.find(b"PK\x01\x02")
    locked[central + 8] |= 1
    with pytest.raises(Unreadable, match="is encrypted"):
        scanned(tmp_path, bytes(locked), "colours.zip")


def test_an_archive_that_unpacks_to_far_more_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_folder, "MOST_UNPACKED", 1000)
    file = BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("red/bomb.bmp", b"\0" * 10_000_000)
    with pytest.raises(Unreadable, match="more than 20 times its size"):
        scanned(tmp_path, file.getvalue(), "colours.zip")


def test_entries_that_share_bytes_are_refused(tmp_path: Path) -> None:
    content = zipped(folders(count=3))
    central, end = content.find(b"PK\x01\x02"), content.find(b"PK\x05\x06")
    repeated = content[central : content.find(b"PK\x01\x02", central + 4)] * 10
    directory = content[central:end] + repeated
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 13, 13, len(directory), central, 0)
    with pytest.raises(Unreadable, match="entries overlap"):
        scanned(tmp_path, content[:central] + directory + tail, "colours.zip")


@pytest.mark.parametrize("declared", [10, 1 << 30])
def test_no_more_is_read_than_the_archive_declares(declared: int, tmp_path: Path) -> None:
    content = bytearray(zipped(folders(count=3)))
    place = content.find(b"PK\x01\x02") + 24
    content[place : place + 4] = struct.pack("<I", declared)
    if declared > len(content):
        assert scanned(tmp_path, bytes(content), "colours.zip").mapping == IMAGES
    else:
        with pytest.raises(Unreadable, match=r"blue/000.png is damaged .*CRC"):
            scanned(tmp_path, bytes(content), "colours.zip")


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_methods_that_decompress_an_entry_as_a_whole_are_refused(method: int, tmp_path: Path) -> None:
    file = BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("red/000.png", PICTURES[0])
    with pytest.raises(Unreadable, match="compressed by a method other than Deflate"):
        scanned(tmp_path, file.getvalue(), "colours.zip")


def test_names_without_the_flag_of_utf8_backslashes_and_absolute_paths_are_understood(tmp_path: Path) -> None:
    cat, dog = "ко\u0438\u0306", "куче"  # й in two characters, as macOS writes it
    names = [f"{cat}/{i}.png" if i % 2 else f"/{dog}/{i}.png" for i in range(60)]
    names += [f"{dog}\\{i}.png" for i in range(60, 120)]
    content = bytearray(zipped(dict(zip(names, PICTURES, strict=True))))
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = content.find(mark)
        while place >= 0:
            content[place + flags + 1] &= ~0x08
            place = content.find(mark, place + 1)
    found = prepared(tmp_path, {"colours.zip": bytes(content)})
    assert found.facts is not None and found.facts.label_counts == {"ко\u0439": 30, dog: 90}
    western = image_folder._path(zipfile.ZipInfo("caf\u00e9/1.png"))
    assert western.parts == ("caf\u00e9", "1.png"), "code page 437 that is no UTF-8"


def test_a_spreadsheet_is_no_archive_of_images(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="an Excel workbook"):
        scanned(tmp_path, zipped(folders(count=3)), "table.xlsx")
