"""The context of the list of datasets, of the ways in, and of uploads that are no dataset yet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from urllib.parse import quote

from app.domain.data.dataset import DatasetFacts
from app.domain.errors import FieldError
from app.store.queries.datasets import Uses
from app.store.tables import DatasetRow, UploadRow
from app.web.format import count
from app.web.i18n import gettext as _
from app.web.i18n import marked, ngettext
from app.web.pages.data.source_form import SourceForm
from app.web.text.data import format_of, tasks_of
from app.web.text.findings import why_none

SOURCES = {"files": marked("files"), "directory": marked("directory"), "hub": marked("hub")}


@dataclass(frozen=True)
class DataLine:
    """A version of a dataset; in the list the newest of its name."""

    name: str
    version: int
    title: str
    status: str
    message: str
    progress: float
    facts: DatasetFacts | None
    """Of one that is ready."""
    uses: Uses
    created_at: datetime
    versions: int = 1
    """How many the name has."""

    @classmethod
    def of(cls, row: DatasetRow, uses: Uses, versions: int = 1) -> "DataLine":
        """From its row."""
        facts = row.facts if row.status == "ready" else None
        message = why_none(row.message, row.blocked_by)
        kept = (row.name, row.version, row.title or row.name, row.status, message, row.progress, facts, uses)
        return cls(*kept, row.created_at, versions)

    @property
    def reference(self) -> str:
        """How a spec names it."""
        return f"{self.name}@{self.version}"

    @property
    def address(self) -> str:
        """Its page."""
        return f"/data/{quote(self.reference)}"

    @property
    def rows(self) -> str:
        """What its rows are."""
        return format_of(self.facts.format) if self.facts else ""

    @property
    def tasks(self) -> str:
        """What can be learnt from them."""
        return tasks_of(self.facts.format) if self.facts else ""

    @property
    def used(self) -> str:
        """By how many runs and studies; empty if by none."""
        parts = [
            ngettext("%(num)s study", "%(num)s studies", self.uses.studies, num=count(self.uses.studies))
            if self.uses.studies
            else "",
            ngettext("%(num)s run", "%(num)s runs", self.uses.runs, num=count(self.uses.runs))
            if self.uses.runs
            else "",
        ]
        return ", ".join(part for part in parts if part)


@dataclass(frozen=True)
class UploadLine:
    """An upload that no dataset is made of."""

    id: int
    name: str
    source: str
    status: str
    message: str
    progress: float
    bytes: int
    created_at: datetime

    @classmethod
    def of(cls, row: UploadRow) -> "UploadLine":
        """From its row."""
        source = _(SOURCES[row.source])
        return cls(row.id, row.name, source, row.status, row.message, row.progress, row.bytes, row.created_at)


@dataclass(frozen=True)
class DataPage:
    """Every dataset, and how more come in."""

    lines: tuple[DataLine, ...]
    uploads: tuple[UploadLine, ...]
    form: SourceForm
    roots: tuple[str, ...]
    """Directories below which data may lie."""
    most_bytes: int
    errors: tuple[FieldError, ...] = ()

    @classmethod
    def of(
        cls,
        rows: Sequence[DatasetRow],
        uses: Mapping[int, Uses],
        uploads: Sequence[UploadRow],
        roots: Sequence[str],
        most_bytes: int,
    ) -> "DataPage":
        """From the store; `rows` by name, the newest version first."""
        lines = []
        for _name, found in groupby(rows, key=lambda row: row.name):
            versions = list(found)
            shown = next((row for row in versions if row.status == "ready"), versions[0])
            lines.append(DataLine.of(shown, uses.get(shown.id, Uses(0, 0)), len(versions)))
        shown_uploads = tuple(map(UploadLine.of, uploads))
        return cls(tuple(lines), shown_uploads, SourceForm.blank(), tuple(roots), most_bytes)

    @property
    def waiting(self) -> bool:
        """A worker is at one of them."""
        return any(line.status == "preparing" for line in self.lines) or any(
            upload.status == "reading" for upload in self.uploads
        )

    def errors_of(self, path: str) -> list[FieldError]:
        """What is wrong with a field."""
        return [error for error in self.errors if error.path == path]
