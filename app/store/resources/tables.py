"""Estimates: requests to the estimation process, and its answers. The same request is computed once."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, String, false
from sqlalchemy.orm import Mapped, mapped_column

from app import feature
from app.domain.data.baselines import Baseline, BaselineRequest
from app.domain.data.previews import Preview, PreviewRequest
from app.domain.resources.computations import Computation
from app.domain.resources.estimate import EstimateRequest, EstimateState, MapRequest, MemoryMap, ResourceEstimate
from app.store.database.base import Base, now
from app.store.database.owned import Asked
from app.store.database.seen import UNFILTERED


class EstimateRow(Asked, Base):
    """A run's resource estimate, a memory map, a preview of rows as a model sees them, a baseline, or what a worker
    computes for a feature."""

    __tablename__ = "estimates"
    seen = UNFILTERED
    """`app.store.resources.estimates.get` filters."""

    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(String(64), unique=True)
    """SHA-256 of the request; of a pasted config, of its user and the request."""
    kind: Mapped[str] = mapped_column(String(10))
    """`run`, `preview`, `map`, `baseline` or the name of a feature."""
    request_json: Mapped[dict[str, Any]]
    status: Mapped[str] = mapped_column(String(20), default="queued", index=True)
    """`queued`, `working`, `ready` or `failed`."""
    message: Mapped[str] = mapped_column(default="")
    """Why it failed."""
    internal: Mapped[bool] = mapped_column(default=False, server_default=false())
    """It failed by an error of Vezna's, which says nothing about the request."""
    result_json: Mapped[dict[str, Any] | None] = mapped_column(default=None)
    created_at: Mapped[datetime] = mapped_column(default=now)
    seen_at: Mapped[datetime | None] = mapped_column(default=None)
    """The attempt's last heartbeat; writing the next one or the answer requires it, so that an expired claim writes
    nothing."""
    rung_at: Mapped[datetime | None] = mapped_column(default=None)

    @property
    def request(self) -> EstimateRequest | PreviewRequest | MapRequest | BaselineRequest | Computation:
        match self.kind:
            case "baseline":
                return BaselineRequest.model_validate(self.request_json)
            case "map":
                return MapRequest.model_validate(self.request_json)
            case "preview":
                return PreviewRequest.model_validate(self.request_json)
            case "run":
                return EstimateRequest.model_validate(self.request_json)
            case name:
                request: Computation = feature.module_of(name, "computations").REQUESTS.validate_python(
                    self.request_json
                )
                return request

    @property
    def state(self) -> EstimateState:
        """The state for callers, for whom a queued estimate is in progress."""
        return "ready" if self.status == "ready" else "failed" if self.status == "failed" else "working"

    @property
    def estimate(self) -> ResourceEstimate | None:
        """The answer for a run, once it is ready."""
        result = self.kind == "run" and self.result_json
        return ResourceEstimate.model_validate(result) if result else None

    @property
    def preview(self) -> Preview | None:
        """Rows as a model sees them, once it is ready."""
        result = self.kind == "preview" and self.result_json
        return Preview.model_validate(result) if result else None

    @property
    def map(self) -> MemoryMap | None:
        """The map, once it is ready."""
        result = self.kind == "map" and self.result_json
        return MemoryMap.model_validate(result) if result else None

    @property
    def baseline(self) -> Baseline | None:
        """The baseline's scores, once it is ready."""
        result = self.kind == "baseline" and self.result_json
        return Baseline.model_validate(result) if result else None


class DeviceRow(Base):
    """A GPU, however many workers see it. At most one attempt has it: a claim takes it, and the end of the attempt or
    the sweep frees it. A CPU has no row."""

    __tablename__ = "devices"
    seen = UNFILTERED

    uuid: Mapped[str] = mapped_column(String(80), primary_key=True)
    """The same on every worker: `GPU-…` for a GPU, `MIG-…` for a MIG slice."""
    name: Mapped[str] = mapped_column(String(200))
    memory_bytes: Mapped[int] = mapped_column(BigInteger)
    run_id: Mapped[int | None] = mapped_column(default=None)
    """The run that has it; None while it is free."""
    epoch: Mapped[int | None] = mapped_column(default=None)
    """Epoch of the attempt that has it."""
    worker: Mapped[str | None] = mapped_column(String(120), default=None)
    """The worker that executes this attempt."""
