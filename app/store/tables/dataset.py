"""Registered datasets, each with versions."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.domain.data.dataset import DatasetFacts
from app.domain.data.findings import Finding
from app.domain.data.mapping import ColumnMapping
from app.domain.data.splitting import Splitting
from app.store.tables.base import Base, now
from app.store.tables.owned import Owned


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
    """Of that file; 0 for versions of before this column."""
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
        """How the upload's rows were split."""
        return Splitting.model_validate(self.splitting_json) if self.splitting_json else None

    @property
    def findings(self) -> list[Finding]:
        """Findings, most severe first."""
        return [Finding.model_validate(finding) for finding in self.findings_json]

    @property
    def blocked_by(self) -> Finding | None:
        """The first blocking finding, or None."""
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
