"""Uploads: bytes as they came, and what a reading found in them."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, String
from sqlalchemy.orm import Mapped, mapped_column

from app.domain.data.uploads import Part, ReadingOptions, SourceScan
from app.store.tables.base import Base, now


class UploadRow(Base):
    """Files, a directory or a hub dataset; the bytes themselves are files in the files store."""

    __tablename__ = "uploads"

    id: Mapped[int] = mapped_column(primary_key=True)
    source: Mapped[str] = mapped_column(String(20))
    """`files`, `directory` or `hub`."""
    name: Mapped[str] = mapped_column(String(500))
    """As people see it."""
    location: Mapped[str] = mapped_column(String(500), default="")
    config: Mapped[str] = mapped_column(String(120), default="")
    revision: Mapped[str] = mapped_column(String(120), default="")
    """Of the hub: as it was asked for, and the commit once it is known."""
    split: Mapped[str] = mapped_column(String(120), default="")
    content_hash: Mapped[str] = mapped_column(String(64), default="", index=True)
    """Of all parts; empty until a worker has fetched them."""
    bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    parts_json: Mapped[list[dict[str, Any]]] = mapped_column(default=list)
    options_json: Mapped[dict[str, Any]] = mapped_column(default=dict)
    status: Mapped[str] = mapped_column(String(20), default="reading", index=True)
    """`reading`, `read` or `failed`."""
    message: Mapped[str] = mapped_column(default="")
    """Why it failed."""
    progress: Mapped[float] = mapped_column(default=0.0)
    """Share of the bytes that are read, 0 to 1."""
    rows_read: Mapped[int] = mapped_column(BigInteger, default=0)
    scan_json: Mapped[dict[str, Any] | None] = mapped_column(default=None)
    created_at: Mapped[datetime] = mapped_column(default=now)
    started_at: Mapped[datetime | None] = mapped_column(default=None)
    """When the present try began; whoever writes shows it, so that one who was given up writes nothing."""
    seen_at: Mapped[datetime | None] = mapped_column(default=None)
    """The last sign of life of whoever is at it."""
    rung_at: Mapped[datetime | None] = mapped_column(default=None)

    @property
    def parts(self) -> list[Part]:
        """Its files."""
        return [Part.model_validate(part) for part in self.parts_json]

    @property
    def options(self) -> ReadingOptions:
        """How it is to be read."""
        return ReadingOptions.model_validate(self.options_json)

    @property
    def scan(self) -> SourceScan | None:
        """What was found, once it is read."""
        return SourceScan.model_validate(self.scan_json) if self.scan_json else None
