"""Uploads: the bytes as received, and what reading them found."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, String
from sqlalchemy.orm import Mapped, mapped_column

from app.domain.data.uploads import Part, ReadingOptions, SourceScan
from app.store.tables.base import Base, now
from app.store.tables.owned import Located


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
        """Its files."""
        return [Part.model_validate(part) for part in self.parts_json]

    @property
    def options(self) -> ReadingOptions:
        """Reading options."""
        return ReadingOptions.model_validate(self.options_json)

    @property
    def scan(self) -> SourceScan | None:
        """The result of reading; None before."""
        return SourceScan.model_validate(self.scan_json) if self.scan_json else None
