"""Registered datasets, each with versions."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.domain.data.dataset import DatasetFacts
from app.domain.data.findings import Finding
from app.domain.data.guesses.mapping import ColumnMapping
from app.domain.data.splitting import Splitting
from app.domain.data.uploads import Part, ReadingOptions, SourceScan
from app.store.database.base import Base, now
from app.store.database.owned import Located, Owned


class DatasetRow(Owned, Base):
    """A version of the rows under a name; the rows themselves are a Parquet file in the files store."""

    __tablename__ = "datasets"
    __table_args__ = (UniqueConstraint("name", "version"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    version: Mapped[int] = mapped_column(default=1)
    title: Mapped[str] = mapped_column(String(200), default="")
    upload_id: Mapped[int | None] = mapped_column(ForeignKey("uploads.id"), index=True, default=None)
    """None if a program made the rows."""
    mapping_json: Mapped[dict[str, Any] | None] = mapped_column(default=None)
    splitting_json: Mapped[dict[str, Any] | None] = mapped_column(default=None)
    status: Mapped[str] = mapped_column(String(20), default="ready", index=True)
    """`preparing`, `ready`, `blocked` or `failed`."""
    message: Mapped[str] = mapped_column(default="")
    """Why it failed. The reason for `blocked` is in the findings, or here if it was blocked before there were any."""
    progress: Mapped[float] = mapped_column(default=0.0)
    """Share of the work done, 0 to 1."""
    content_hash: Mapped[str] = mapped_column(String(64), index=True, default="")
    file: Mapped[str] = mapped_column(String(500), default="")
    """Empty until it is ready."""
    stored_bytes: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    """Bytes of that file; 0 for versions older than this column."""
    facts_json: Mapped[dict[str, Any]] = mapped_column(default=dict)
    findings_json: Mapped[list[dict[str, Any]]] = mapped_column(default=list)
    created_at: Mapped[datetime] = mapped_column(default=now)
    started_at: Mapped[datetime | None] = mapped_column(default=None)
    """Start of the current claim. It fences writes: a worker whose claim was taken over cannot write any more."""
    seen_at: Mapped[datetime | None] = mapped_column(default=None)
    """Last heartbeat of the worker that prepares it; once it is ready, the time at which it became ready."""
    rung_at: Mapped[datetime | None] = mapped_column(default=None)

    @property
    def facts(self) -> DatasetFacts:
        """Counts, labels and hash. Raises ValidationError if the version is not ready."""
        return DatasetFacts.model_validate(self.facts_json)

    @property
    def mapping(self) -> ColumnMapping | None:
        """Which column of the upload has which role."""
        return ColumnMapping.model_validate(self.mapping_json) if self.mapping_json else None

    @property
    def splitting(self) -> Splitting | None:
        return Splitting.model_validate(self.splitting_json) if self.splitting_json else None

    @property
    def findings(self) -> list[Finding]:
        """Findings, most severe first."""
        return [Finding.model_validate(finding) for finding in self.findings_json]

    @property
    def blocked_by(self) -> Finding | None:
        return next((f for f in self.findings if f.severity == "blocks"), None) if self.status == "blocked" else None

    @property
    def shown(self) -> str:
        """Name on pages; from the second version on it includes the version."""
        name = self.title or self.name
        return f"{name}, version {self.version}" if self.version > 1 else name

    @property
    def reference(self) -> str:
        """Name of exactly this version in a spec."""
        return f"{self.name}@{self.version}"


class UploadRow(Located, Base):
    """Files, a directory or a hub dataset; the bytes themselves are files in the files store. `source` is `files`,
    `directory` or `hub`."""

    __tablename__ = "uploads"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(500))
    """Name on pages."""
    config: Mapped[str] = mapped_column(String(120), default="")
    revision: Mapped[str] = mapped_column(String(120), default="")
    """Revision on the hub: as requested, and the commit once it is known."""
    split: Mapped[str] = mapped_column(String(120), default="")
    content_hash: Mapped[str] = mapped_column(String(64), default="", index=True)
    """Hash of all parts; empty until a worker has fetched them."""
    bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    parts_json: Mapped[list[dict[str, Any]]] = mapped_column(default=list)
    options_json: Mapped[dict[str, Any]] = mapped_column(default=dict)
    status: Mapped[str] = mapped_column(String(20), default="reading", index=True)
    """`reading`, `read` or `failed`."""
    message: Mapped[str] = mapped_column(default="")
    """Why it failed."""
    progress: Mapped[float] = mapped_column(default=0.0)
    """Share of the bytes read, 0 to 1."""
    rows_read: Mapped[int] = mapped_column(BigInteger, default=0)
    scan_json: Mapped[dict[str, Any] | None] = mapped_column(default=None)
    created_at: Mapped[datetime] = mapped_column(default=now)
    started_at: Mapped[datetime | None] = mapped_column(default=None)
    """Start of the current claim. It fences writes: a worker whose claim was taken over cannot write any more."""
    seen_at: Mapped[datetime | None] = mapped_column(default=None)
    """Last heartbeat of the worker that reads it."""
    rung_at: Mapped[datetime | None] = mapped_column(default=None)

    @property
    def shown_name(self) -> str:
        """Its name as the viewer of its session sees it."""
        return self.shown_location or self.name

    @property
    def parts(self) -> list[Part]:
        return [Part.model_validate(part) for part in self.parts_json]

    @property
    def options(self) -> ReadingOptions:
        return ReadingOptions.model_validate(self.options_json)

    @property
    def scan(self) -> SourceScan | None:
        """The result of reading; None before."""
        return SourceScan.model_validate(self.scan_json) if self.scan_json else None
