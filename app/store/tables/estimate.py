"""Estimates: what was asked of the process that predicts, and the answer. The same request is worked out once."""

from datetime import datetime
from typing import Any

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from app.domain.data.previews import Preview, PreviewRequest
from app.domain.resources.estimate import EstimateRequest, MapRequest, MemoryMap, ResourceEstimate
from app.store.tables.base import Base, now


class EstimateRow(Base):
    """A prediction of a run, a map of many, or rows as a model sees them."""

    __tablename__ = "estimates"

    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(String(64), unique=True)
    """SHA-256 of the request."""
    kind: Mapped[str] = mapped_column(String(10))
    """`run`, `preview` or `map`."""
    request_json: Mapped[dict[str, Any]]
    status: Mapped[str] = mapped_column(String(20), default="queued", index=True)
    """`queued`, `working`, `ready` or `failed`."""
    message: Mapped[str] = mapped_column(default="")
    """Why it failed."""
    result_json: Mapped[dict[str, Any] | None] = mapped_column(default=None)
    created_at: Mapped[datetime] = mapped_column(default=now)
    started_at: Mapped[datetime | None] = mapped_column(default=None)
    """When the present try began; whoever writes its answer shows it, so that one who was given up writes nothing."""
    rung_at: Mapped[datetime | None] = mapped_column(default=None)

    @property
    def request(self) -> EstimateRequest | PreviewRequest | MapRequest:
        """What was asked for."""
        match self.kind:
            case "map":
                return MapRequest.model_validate(self.request_json)
            case "preview":
                return PreviewRequest.model_validate(self.request_json)
            case _:
                return EstimateRequest.model_validate(self.request_json)

    @property
    def prediction(self) -> ResourceEstimate | None:
        """The answer for a run, once it is ready."""
        found = self.kind == "run" and self.result_json
        return ResourceEstimate.model_validate(found) if found else None

    @property
    def preview(self) -> Preview | None:
        """Rows as a model sees them, once it is ready."""
        found = self.kind == "preview" and self.result_json
        return Preview.model_validate(found) if found else None

    @property
    def map(self) -> MemoryMap | None:
        """The map, once it is ready."""
        found = self.kind == "map" and self.result_json
        return MemoryMap.model_validate(found) if found else None
