"""Datasets that were registered, each in versions."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.domain.data.dataset import DatasetFacts
from app.domain.data.findings import Finding
from app.domain.data.mapping import ColumnMapping
from app.domain.data.splitting import Splitting
from app.store.tables.base import Base, now


class DatasetRow(Base):
    """A version of the rows under a name; the rows themselves are a Parquet file in the files store."""

    __tablename__ = "datasets"
    __table_args__ = (UniqueConstraint("name", "version"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    version: Mapped[int] = mapped_column(default=1)
    title: Mapped[str] = mapped_column(String(200), default="")
    upload_id: Mapped[int | None] = mapped_column(ForeignKey("uploads.id"), index=True, default=None)
    """None of rows that were made by a program."""
    mapping_json: Mapped[dict[str, Any] | None] = mapped_column(default=None)
    splitting_json: Mapped[dict[str, Any] | None] = mapped_column(default=None)
    status: Mapped[str] = mapped_column(String(20), default="ready", index=True)
    """`preparing`, `ready`, `blocked` or `failed`."""
    message: Mapped[str] = mapped_column(default="")
    """Why it failed. Why it is blocked its findings say; of what was blocked before they could, this does too."""
    progress: Mapped[float] = mapped_column(default=0.0)
    """Share of the work that is done, 0 to 1."""
    content_hash: Mapped[str] = mapped_column(String(64), index=True, default="")
    file: Mapped[str] = mapped_column(String(500), default="")
    """Empty until it is ready."""
    facts_json: Mapped[dict[str, Any]] = mapped_column(default=dict)
    findings_json: Mapped[list[dict[str, Any]]] = mapped_column(default=list)
    created_at: Mapped[datetime] = mapped_column(default=now)
    started_at: Mapped[datetime | None] = mapped_column(default=None)
    """When the present try began; whoever writes shows it, so that one who was given up writes nothing."""
    seen_at: Mapped[datetime | None] = mapped_column(default=None)
    """The last sign of life of whoever is at it, and in the end when it became ready."""
    rung_at: Mapped[datetime | None] = mapped_column(default=None)

    @property
    def facts(self) -> DatasetFacts:
        """Counts, labels and hash. Raises ValidationError for one that is not ready."""
        return DatasetFacts.model_validate(self.facts_json)

    @property
    def mapping(self) -> ColumnMapping | None:
        """Which column of the upload is which."""
        return ColumnMapping.model_validate(self.mapping_json) if self.mapping_json else None

    @property
    def splitting(self) -> Splitting | None:
        """How the upload's rows came into splits."""
        return Splitting.model_validate(self.splitting_json) if self.splitting_json else None

    @property
    def findings(self) -> list[Finding]:
        """What was found, the gravest first."""
        return [Finding.model_validate(finding) for finding in self.findings_json]

    @property
    def blocked_by(self) -> Finding | None:
        """The first finding that blocks; None unless it is blocked."""
        return next((f for f in self.findings if f.severity == "blocks"), None) if self.status == "blocked" else None

    @property
    def shown(self) -> str:
        """How pages call it: a second version is told from the first."""
        name = self.title or self.name
        return f"{name}, version {self.version}" if self.version > 1 else name

    @property
    def reference(self) -> str:
        """How a spec names just this version."""
        return f"{self.name}@{self.version}"
