"""Opens the files of an upload one after the other, each with the reader of its kind, which is detected by its
name and its first bytes: these must agree."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from app.domain.data.uploads import KINDS, READABLE, FileKind, ReadingOptions
from app.domain.messages import Message, _
from worker.ingest.readers.batches import LocalPart, Opened, Source, Unreadable, printable
from worker.ingest.readers.delimited import open_delimited
from worker.ingest.readers.image_folder import open_image_folder
from worker.ingest.readers.json_files import open_json, open_lines
from worker.ingest.readers.parquet import open_parquet
from worker.ingest.readers.text import wide

_OTHERS = (
    (b"\x1f\x8b", _("compressed by gzip"), _("Unpack it first")),
    (
        b"PK\x03\x04",
        _("a zip archive or an Excel workbook"),
        _("Unpack it, save the sheet as CSV, or name an archive of images .zip"),
    ),
    (b"\xd0\xcf\x11\xe0", _("an old Excel workbook"), _("Save the sheet as CSV")),
    (b"%PDF", _("a PDF"), _("Export its table as CSV")),
    (b"SQLite format 3", _("an SQLite database"), _("Export its table as CSV")),
    (b"ARROW1", _("an Arrow file"), _("Write it as Parquet")),
    (b"\x28\xb5\x2f\xfd", _("compressed by zstd"), _("Unpack it first")),
)
_IMAGES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"II*\0", b"MM\0*")
_FORMATS_OF_IMAGES = (b"ftyphei", b"ftypmif1", b"ftypavif", b"WEBP")
"""At the bytes 4 or 8."""
_HEAD = 4096


def kind_of(name: str, path: Path) -> FileKind:
    """The kind of a file. Raises Unreadable if it is empty, of an unsupported kind, or not of the kind in its name."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if not head:
        raise Unreadable(_("%(name)s is empty.", name=name))
    named = KINDS.get(PurePosixPath(name.lower()).suffix)
    if named == "zip" and head.startswith(b"PK"):
        return "zip"
    for signature, kind, remedy in _OTHERS:
        if head.startswith(signature):
            problem = _(
                "%(name)s is %(kind)s, and Vezna reads %(readable)s. %(remedy)s.",
                name=name,
                kind=kind,
                readable=READABLE,
                remedy=remedy,
            )
            raise Unreadable(problem)
    if head.startswith(_IMAGES) or any(head.startswith(mark, at) for mark in _FORMATS_OF_IMAGES for at in (4, 8)):
        problem = _(
            "%(name)s is a single image. Put each image as JPEG or PNG into the directory of its class, and upload "
            "a zip archive of the directories.",
            name=name,
        )
        raise Unreadable(problem)
    if head.startswith(b"PAR1"):
        if named not in (None, "parquet"):
            raise Unreadable(_misnamed(name, named, _("is a Parquet file"), ".parquet"))
        return "parquet"
    if named in ("parquet", "zip"):
        problem = _(
            "%(name)s is named as %(named)s but does not begin like such a file: it is damaged, or of another kind.",
            name=name,
            named=named.capitalize(),
        )
        raise Unreadable(problem)
    text = head.decode(wide(head) or "utf-8", errors="ignore").lstrip()
    if named in ("json", "jsonl"):
        return _json(name, named, text)
    if text.startswith("{") and _is_json(text.splitlines()[0]):
        if named is None:
            return "jsonl"
        raise Unreadable(_misnamed(name, named, _("contains lines of JSON"), ".jsonl"))
    if text.startswith("[") and named is None:
        return "json"
    if text.startswith(("[{", "[\n")) and named is not None:
        raise Unreadable(_misnamed(name, named, _("contains JSON"), ".json"))
    return named or "csv"


def _misnamed(name: str, named: FileKind, what: str, ending: str) -> Message:
    return _(
        "%(name)s is named as %(named)s but %(what)s. Rename it to %(ending)s.",
        name=name,
        named=named.upper(),
        what=what,
        ending=ending,
    )


def _json(name: str, named: FileKind, text: str) -> FileKind:
    if not text:
        raise Unreadable(_("%(name)s contains only white space.", name=name))
    if text[0] not in "[{":
        problem = _(
            "%(name)s is named as %(named)s but begins with %(start)r instead of { or [: it is of another kind, "
            "or damaged.",
            name=name,
            named=named.upper(),
            start=printable(text[:20]),
        )
        raise Unreadable(problem)
    if text[0] == "{":
        return named  # the reader of .json detects whether it holds lines or one object
    lines = text.splitlines()
    return "jsonl" if named == "jsonl" and len(lines) > 1 and _is_json(lines[0]) else "json"


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return len(line) >= _HEAD // 2 and '":' in line  # truncated, since only the head was read
    return True


Progress = Callable[[float, int], None]
"""Receives the share of all bytes read, and the number of rows read."""


class Files:
    """The files of an upload, and the progress over all of them."""

    def __init__(self, parts: Sequence[LocalPart], options: ReadingOptions, progress: Progress) -> None:
        self._parts, self._options, self._progress = parts, options, progress
        self._total = sum(part.part.bytes for part in parts) or 1
        self._bytes, self._rows, self._within = 0, 0, (0, 0)

    def open(self, local: LocalPart) -> Opened:
        """Open a file. Raises `Unreadable`, here or while its batches are read."""
        self._bytes, self._rows = self._bytes + self._within[0], self._rows + self._within[1]
        self._within = (0, 0)
        source = Source(local.part.name, local.path, self._options, self._tick)
        kind = kind_of(local.part.name, local.path)
        match kind:
            case "csv" | "tsv":
                return open_delimited(source, kind)
            case "jsonl":
                return open_lines(source)
            case "json":
                return open_json(source)
            case "parquet":
                return open_parquet(source)
            case "zip":
                return open_image_folder(source)

    def _tick(self, read: int, rows: int) -> None:
        self._within = (read, rows)
        self._progress(min(1.0, (self._bytes + read) / self._total), self._rows + rows)
