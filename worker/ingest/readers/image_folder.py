"""Reads a zip archive of images in directories named by their classes, as `imagefolder` of the datasets library does.

    cat/1.png                the class is the name of the directory
    train/cat/1.png          a directory above it may name the split

Nothing is unpacked to the disk. Files that are no images by their endings are skipped, and named in a finding.
"""

import unicodedata
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import PurePosixPath
from typing import NamedTuple

from app.domain.data.findings import MOST_NAMED
from app.domain.data.guesses.guessed_names import SPLIT_WORDS
from app.domain.data.images import MOST_IMAGE_BYTES, READ_ENDINGS
from app.domain.messages import _
from worker.ingest.findings.skipped import by_ending
from worker.ingest.readers.batches import BATCH_CHARACTERS, BATCH_ROWS, Batch, Opened, Source, Unreadable

HIDDEN = ("thumbs.db", "desktop.ini")
"""Files that Windows writes beside images, in lower case."""
MOST_IMAGES = 500_000
MOST_UNPACKED, MOST_RATIO = 4 << 30, 20
"""Bytes of all images: at most the one, or the other times the archive's size. Images hardly compress."""
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""With the others zipfile decompresses an entry as a whole, however large it becomes."""
_LOCAL_HEADER = 30
"""Bytes before an entry's name and content."""
_UTF_8 = 0x800
"""The flag of an entry whose name is in UTF-8; others are in code page 437, as zipfile decodes them."""


class _Entry(NamedTuple):
    info: zipfile.ZipInfo
    path: PurePosixPath
    label: str
    split: str


def open_image_folder(source: Source) -> Opened:
    """Open an archive. Raises Unreadable if it is damaged, encrypted, without images, or unpacks to far more bytes than
    it has. zipfile reads no more of an entry than the size that the archive declares for it."""
    try:
        with zipfile.ZipFile(source.path) as archive:
            infos = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise Unreadable(_damaged(source.name, error)) from error
    paths = map(_path, infos)
    files = [(info, path) for info, path in zip(infos, paths, strict=True) if _is_shown(info, path)]
    entries = [_entry(info, path) for info, path in files if path.suffix.lower() in READ_ENDINGS]
    skipped = [str(path) for _info, path in files if path.suffix.lower() not in READ_ENDINGS]
    if not entries and skipped:
        text = _(
            "%(name)s has no image that Vezna reads, only files of other formats: %(endings)s. Save the images as JPEG "
            "or PNG, each in the directory of its class.",
            name=source.name,
            endings=", ".join(f"{ending} ({number:,})" for ending, number in by_ending(skipped)[:MOST_NAMED]),
        )
        raise Unreadable(text)
    if not any(entry.label for entry in entries):
        text = _(
            "%(name)s has no images in directories named by their classes, such as cat/1.png or train/cat/1.png. Put "
            "each image into the directory of its class.",
            name=source.name,
        )
        raise Unreadable(text)
    if len(entries) > MOST_IMAGES:
        text = _("%(name)s has more than %(limit)s images. Divide it.", name=source.name, limit=f"{MOST_IMAGES:,}")
        raise Unreadable(text)
    unpacked = sum(entry.info.file_size for entry in entries)
    if unpacked > max(MOST_UNPACKED, MOST_RATIO * source.path.stat().st_size):
        text = _(
            "%(name)s unpacks to %(unpacked)s GiB, more than %(ratio)s times its size. Vezna does not read such an "
            "archive: store the images as PNG or JPEG.",
            name=source.name,
            unpacked=f"{unpacked / 2**30:.1f}",
            ratio=MOST_RATIO,
        )
        raise Unreadable(text)
    if any(entry.info.flag_bits & 1 for entry in entries):
        raise Unreadable(_("%(name)s is encrypted. Upload it without a password.", name=source.name))
    if any(entry.info.compress_type not in _METHODS for entry in entries):
        text = _(
            "%(name)s is compressed by a method other than Deflate. Create the archive again as an ordinary zip file.",
            name=source.name,
        )
        raise Unreadable(text)
    if _overlap(infos):
        raise Unreadable(_damaged(source.name, ValueError("entries overlap")))
    return Opened("zip", _batches(source, entries), skipped=skipped)


def _path(info: zipfile.ZipInfo) -> PurePosixPath:
    """An entry's path: relative, with composed characters. macOS writes UTF-8 without its flag, and old Windows tools
    write backslashes."""
    name = info.filename
    if not info.flag_bits & _UTF_8:
        with suppress(UnicodeError):  # the name is in code page 437
            name = name.encode("cp437").decode("utf-8")
    return PurePosixPath(unicodedata.normalize("NFC", name).replace("\\", "/").lstrip("/"))


def _overlap(infos: Sequence[zipfile.ZipInfo]) -> bool:
    """Whether entries share bytes, so that a small archive has very many images."""
    ordered = sorted(infos, key=lambda info: info.header_offset)
    return any(a.header_offset + _LOCAL_HEADER + a.compress_size > b.header_offset for a, b in pairwise(ordered))


def _is_shown(info: zipfile.ZipInfo, path: PurePosixPath) -> bool:
    """Whether an entry is a file, and none that systems hide."""
    hidden = any(part.startswith((".", "__MACOSX")) or part.lower() in HIDDEN for part in path.parts)
    return not info.is_dir() and not hidden


def _entry(info: zipfile.ZipInfo, path: PurePosixPath) -> _Entry:
    *above, label = path.parent.parts or ("",)
    if label.lower() in SPLIT_WORDS:
        above, label = [*above, label], ""
    splits = [part for part in above if part.lower() in SPLIT_WORDS]
    return _Entry(info, path, label, splits[-1] if splits else "")


def _batches(source: Source, entries: list[_Entry]) -> Iterator[Batch]:
    with_splits = any(entry.split for entry in entries)
    total, size = sum(entry.info.compress_size for entry in entries) or 1, source.path.stat().st_size
    done = start = held = 0
    batch: dict[str, list[str | bytes]] = {}
    with zipfile.ZipFile(source.path) as archive:
        for place, entry in enumerate(entries, start=1):
            image = _read(source.name, archive, entry.info)
            row: dict[str, str | bytes] = {"image": image, "label": entry.label, "file": str(entry.path)}
            for name, value in (row | ({"split": entry.split} if with_splits else {})).items():
                batch.setdefault(name, []).append(value)
            held += len(image)
            done += entry.info.compress_size
            if place - start == BATCH_ROWS or held >= BATCH_CHARACTERS or place == len(entries):
                yield Batch(batch, range(start + 1, place + 1))
                source.tick(size * done // total, place)
                batch, start, held = {}, place, 0


def _read(name: str, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """One byte more than allowed of an image that is too large, which is then left out."""
    try:
        with archive.open(info) as file:
            return file.read(MOST_IMAGE_BYTES + 1)
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        raise Unreadable(_damaged(f"{name}: {info.filename[:200]}", error)) from error


def _damaged(name: str, error: Exception) -> str:
    why = " ".join(str(error).split()) or type(error).__name__
    return _("%(name)s is damaged and cannot be read as a zip archive (%(why)s).", name=name, why=why[:200])
