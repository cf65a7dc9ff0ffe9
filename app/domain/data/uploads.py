"""Uploads: bytes as they came, before anybody said what they mean, and what a reading found in them.

reading ──► read        a SourceScan: columns, splits, a guess at the mapping, findings
   └──────► failed      a sentence that names row and column
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.domain.data.findings import Finding
from app.domain.data.mapping import Column, ColumnMapping
from app.domain.data.splitting import Splitting
from app.domain.messages import _
from app.domain.models.base_model import HUB_ID
from app.domain.names import Line
from app.domain.validation import invalid_field

UploadState = Literal["reading", "read", "failed"]
UploadSource = Literal["files", "directory", "hub"]
FileKind = Literal["csv", "tsv", "jsonl", "json", "parquet"]
KINDS: dict[str, FileKind] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".txt": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
}
"""By the ending of a name; what a file begins with decides where the two disagree."""
READABLE = "CSV, TSV, JSONL, JSON and Parquet"
MOST_PARTS = 100
"""Files of an upload."""
MOST_COLUMNS = 500
SHOWN_ROWS = 5
MOST_VALUES = 50
"""Of a column's values that are listed."""
Delimiter = Literal["", ",", ";", "\t", "|"]


class ReadingOptions(BaseModel):
    """How text files are to be read, where looking at them finds out wrongly."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    delimiter: Delimiter = ""
    """Between the fields of a CSV file; empty: found out."""
    encoding: Line = Field(default="", max_length=40)
    """A name that Python knows, such as `latin-1`; empty: found out."""
    header: bool | None = None
    """Whether the first row names the columns; None: found out."""

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
    """Ask for rows that lie in a directory under an allowed root, or on the hub."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Literal["directory", "hub"]
    location: Line = Field(min_length=1, max_length=500)
    """A directory (or one file in it), or a hub id."""
    config: Line = Field(default="", max_length=120)
    """Of a hub dataset that has several."""
    revision: Line = Field(default="", max_length=120)
    """Of the hub: a branch, a tag or a commit; empty is the newest. The commit is kept."""
    split: Line = Field(default="", max_length=120)
    """Of the hub; empty takes all."""

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
    """One file of an upload, as it lies in the files store."""

    model_config = ConfigDict(frozen=True)

    name: str
    """As it was called where it came from; shown, and never used as a path."""
    sha256: str
    bytes: int
    split: str = ""
    """The split of the source that it holds, if its name tells."""
    file: str
    """Name in the files store."""

    @model_validator(mode="before")
    @classmethod
    def _named_by_its_content(cls, values: dict[str, object]) -> dict[str, object]:
        """As files were called before each had a name of its own."""
        return {"file": f"uploads/{values.get('sha256')}"} | values


class SourceScan(BaseModel):
    """What a reading found."""

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
    """A guess."""
    reason: str = ""
    """Why it is guessed, or why nothing is."""
    splitting: Splitting = Splitting()
    """A guess."""
    findings: list[Finding] = Field(default_factory=list)


def shown_name(given: str) -> str:
    """A file's own name, of whatever was given: no folders, nothing that cannot be printed, not too long."""
    name = PurePosixPath(given.replace("\\", "/")).name
    kept = "".join(c for c in name if c.isprintable()).strip()
    return kept[-120:] if kept not in ("", ".", "..") else "file"


def content_hash(parts: Sequence[Part]) -> str:
    """SHA-256 of what was uploaded: of a single file its own; names count only where they tell splits apart."""
    if len(parts) == 1:
        return parts[0].sha256
    told = json.dumps([[part.split, part.sha256] for part in parts])
    return hashlib.sha256(told.encode()).hexdigest()
