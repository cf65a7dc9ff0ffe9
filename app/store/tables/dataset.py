"""Datasets that were registered."""

from datetime import datetime
from typing import Any

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from app.domain.datasets import DatasetFacts
from app.store.tables.base import Base, now


class DatasetRow(Base):
    """Rows under a name; the rows themselves are a Parquet file in the files store."""

    __tablename__ = "datasets"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    title: Mapped[str] = mapped_column(String(200), default="")
    content_hash: Mapped[str] = mapped_column(String(64), index=True)
    file: Mapped[str] = mapped_column(String(500))
    facts_json: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(default=now)

    @property
    def facts(self) -> DatasetFacts:
        """Counts, labels and hash."""
        return DatasetFacts.model_validate(self.facts_json)
