"""The context of the page on which results from elsewhere are brought in."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from app.domain.errors import FieldError
from app.domain.imports.files import Refused
from app.services.imports import Imported
from app.store.queries.collections import Stock


@dataclass(frozen=True)
class CollectionLine:
    """A collection in the list."""

    id: int
    name: str
    runs: int
    created_at: datetime


@dataclass(frozen=True)
class Report:
    """What became of the files that were sent."""

    collection: str
    collection_id: int | None
    added: int
    known: int
    refused: tuple["RefusedFile", ...]

    @classmethod
    def of(cls, found: Imported) -> "Report":
        """From the service."""
        its = found.collection
        return cls(
            collection=its.name if its else "",
            collection_id=its.id if its else None,
            added=len(found.added),
            known=len(found.known),
            refused=tuple(map(RefusedFile.of, found.refused)),
        )


@dataclass(frozen=True)
class RefusedFile:
    """A file of which nothing was taken."""

    file: str
    errors: tuple[FieldError, ...]

    @classmethod
    def of(cls, found: Refused) -> "RefusedFile":
        """From the domain, in the reader's language."""
        return cls(found.file, tuple(found.errors))


@dataclass(frozen=True)
class ImportsPage:
    """Collections, a form for another, and what became of the last files."""

    collections: tuple[CollectionLine, ...]
    name: str
    """As it was typed."""
    report: Report | None = None
    errors: tuple[FieldError, ...] = ()

    @classmethod
    def of(cls, stocks: Sequence[Stock], name: str = "") -> "ImportsPage":
        """From the store."""
        lines = (CollectionLine(s.row.id, s.row.name, s.runs, s.row.created_at) for s in stocks)
        return cls(tuple(lines), name)
