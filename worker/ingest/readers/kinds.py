"""What kind of file it is: by its name and its first bytes, which must agree."""

import json
from pathlib import Path, PurePosixPath

from app.domain.data.uploads import KINDS, READABLE, FileKind
from worker.ingest.readers.batches import Unreadable, printable
from worker.ingest.readers.text import wide

_OTHERS = (
    (b"\x1f\x8b", "compressed by gzip", "unpack it first"),
    (b"PK\x03\x04", "a zip archive or an Excel workbook", "unpack it, or save the sheet as CSV"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook", "save the sheet as CSV"),
    (b"%PDF", "a PDF", "export its table as CSV"),
    (b"SQLite format 3", "an SQLite database", "export its table as CSV"),
    (b"ARROW1", "an Arrow file", "write it as Parquet"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd", "unpack it first"),
)
_HEAD = 4096


def kind_of(name: str, path: Path) -> FileKind:
    """Raises Unreadable for a file that is empty, of another kind, or not what its name says."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if not head:
        raise Unreadable(f"{name} is empty.")
    said = KINDS.get(PurePosixPath(name.lower()).suffix)
    for begins, what, remedy in _OTHERS:
        if head.startswith(begins):
            raise Unreadable(f"{name} is {what}, and Vezna reads {READABLE}: {remedy}.")
    if head.startswith(b"PAR1"):
        if said not in (None, "parquet"):
            raise Unreadable(f"{name} is named as {said.upper()} and is a Parquet file: name it .parquet.")
        return "parquet"
    if said == "parquet":
        raise Unreadable(f"{name} is named as Parquet and does not begin as one: it is damaged, or is of another kind.")
    text = head.decode(wide(head) or "utf-8", errors="ignore").lstrip()
    if said in ("json", "jsonl"):
        return _json(name, said, text)
    if text.startswith("{") and _is_json(text.splitlines()[0]):
        if said is None:
            return "jsonl"
        raise Unreadable(f"{name} is named as {said.upper()} and holds lines of JSON: name it .jsonl.")
    if text.startswith("[") and said is None:
        return "json"
    if text.startswith(("[{", "[\n")) and said is not None:
        raise Unreadable(f"{name} is named as {said.upper()} and holds JSON: name it .json.")
    return said or "csv"


def _json(name: str, said: FileKind, text: str) -> FileKind:
    if not text:
        raise Unreadable(f"{name} holds nothing but white space.")
    if text[0] not in "[{":
        what = f"is named as {said.upper()} and does not begin with {{ or [, but with {printable(text[:20])!r}"
        raise Unreadable(f"{name} {what}: it is of another kind, or damaged.")
    if text[0] == "{":
        return said  # the reader of .json detects whether it holds lines or one object
    lines = text.splitlines()
    return "jsonl" if said == "jsonl" and len(lines) > 1 and _is_json(lines[0]) else "json"


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return len(line) >= _HEAD // 2 and '":' in line  # truncated, since only the head was read
    return True
