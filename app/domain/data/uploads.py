"""Uploads: files as they were sent, and what a worker found in them.

reading ──► read        a SourceScan: columns, splits, a guess at the mapping, findings
   └──────► failed      a message that names row and column
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.domain.data.findings import Finding
from app.domain.data.guesses.mapping import Column, ColumnMapping
from app.domain.data.splitting import Splitting
from app.domain.messages import _
from app.domain.models.base_model import HUB_ID
from app.domain.validation import Line, invalid_field

UploadState = Literal["reading", "read", "failed"]
UploadSource = Literal["files", "directory", "hub"]
FileKind = Literal["csv", "tsv", "jsonl", "json", "parquet", "zip"]
KINDS: dict[str, FileKind] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".txt": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
    ".zip": "zip",
}
"""By file extension; if the first bytes of a file contradict it, they decide."""
READABLE = "CSV, TSV, JSONL, JSON, Parquet and zip archives of images"
MOST_PARTS = 100
MOST_COLUMNS = 500
SHOWN_ROWS = 5
MOST_VALUES = 50
"""Listed values of a column."""
Delimiter = Literal["", ",", ";", "\t", "|"]


class ReadingOptions(BaseModel):
    """How to read text files, where automatic detection fails."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    delimiter: Delimiter = ""
    """For a CSV file; empty: detected automatically."""
    encoding: Line = Field(default="", max_length=40)
    """A name that Python knows, such as `latin-1`; empty: detected automatically."""
    header: bool | None = None
    """Whether the first row names the columns; None: detected automatically."""

    @model_validator(mode="after")
    def _encoding_is_known(self) -> "ReadingOptions":
        try:
            "".encode(self.encoding or "utf-8")
        except (LookupError, UnicodeError):
            raise invalid_field(
                "encoding",
                _("%(encoding)r is not a text encoding", encoding=self.encoding),
                _("Use an encoding such as utf-8 or latin-1"),
            ) from None
        return self


class SourceRequest(BaseModel):
    """A directory below an allowed root, or a hub dataset, to be fetched."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Literal["directory", "hub"]
    location: Line = Field(min_length=1, max_length=500)
    """A directory (or one file in it), or a hub id."""
    config: Line = Field(default="", max_length=120)
    """Configuration of a hub dataset that has several."""
    revision: Line = Field(default="", max_length=120)
    """A branch, a tag or a commit of the hub; empty is the newest. The commit is kept."""
    split: Line = Field(default="", max_length=120)
    """Split of a hub dataset; empty takes all."""

    @model_validator(mode="after")
    def _hub_id_is_no_path(self) -> "SourceRequest":
        if self.source == "hub" and (not HUB_ID.fullmatch(self.location) or ".." in self.location):
            raise invalid_field(
                "location",
                _("%(location)r is not the id of a dataset on the Hugging Face hub", location=self.location),
                _("Use an id such as fancyzhx/ag_news"),
            )
        if self.source == "directory" and (self.config or self.revision or self.split):
            raise invalid_field(
                "source",
                _("config, revision and split apply only to datasets on the hub"),
                _("Leave them out for a directory"),
            )
        return self


class Part(BaseModel):
    """A file of an upload in the files store."""

    model_config = ConfigDict(frozen=True)

    name: str
    """The original name; displayed, and never used as a path."""
    sha256: str
    bytes: int
    split: str = ""
    """The split of the source that it holds, if its name tells."""
    file: str
    """Name in the files store."""


class SourceScan(BaseModel):
    """What a worker found in an upload."""

    model_config = ConfigDict(frozen=True)

    kind: FileKind
    encoding: str = ""
    delimiter: str = ""
    header: bool = True
    rows: int
    splits: dict[str, int]
    """Rows of each split of the source, in order; one split without a name if it has none."""
    columns: list[Column]
    mapping: ColumnMapping | None = None
    """Guessed."""
    reason: str = ""
    """The reason of the guess, or why there is none."""
    splitting: Splitting = Splitting()
    """Guessed."""
    findings: list[Finding] = Field(default_factory=list)


def shown_name(file_name: str) -> str:
    """A file's name without folders and unprintable characters, of limited length."""
    name = PurePosixPath(file_name.replace("\\", "/")).name
    kept = "".join(c for c in name if c.isprintable()).strip()
    return kept[-120:] if kept not in ("", ".", "..") else "file"


def content_hash(parts: Sequence[Part]) -> str:
    """SHA-256 of an upload: of a single file its own; names count only as splits."""
    if len(parts) == 1:
        return parts[0].sha256
    text = json.dumps([[part.split, part.sha256] for part in parts])
    return hashlib.sha256(text.encode()).hexdigest()
