"""Workers, their devices, and the device time that attempts have used."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.domain.resources.devices import VisibleGpu
from app.store.database.base import Base, now
from app.store.database.seen import UNFILTERED


class WorkerRow(Base):
    """A worker that has reported; it is live while its heartbeat is fresh."""

    __tablename__ = "workers"
    seen = UNFILTERED

    name: Mapped[str] = mapped_column(String(120), primary_key=True)
    device: Mapped[str] = mapped_column(String(20), default="cpu")
    device_name: Mapped[str] = mapped_column(String(200), default="")
    memory_bytes: Mapped[int | None] = mapped_column(BigInteger, default=None)
    """Memory of the device: the host's memory for a CPU, that of the smallest GPU for CUDA."""
    context_bytes: Mapped[int | None] = mapped_column(BigInteger, default=None)
    """GPU memory of a process before its first tensor, as the worker measured it; None on a CPU or if unknown."""
    problem: Mapped[str | None] = mapped_column(String(600), default=None)
    """A sentence about a GPU of its machine that cannot be used."""
    cores: Mapped[int] = mapped_column(default=1)
    capabilities: Mapped[list[str]] = mapped_column(default=list)
    """What not every worker can do: `qlora`."""
    devices_json: Mapped[list[dict[str, Any]]] = mapped_column(default=list)
    """The GPUs that it may use, in the driver's order, as it saw them at its last heartbeat; empty on a CPU."""
    bf16: Mapped[bool] = mapped_column(default=False)
    matmul_flops: Mapped[float | None] = mapped_column(default=None)
    """Matrix-product throughput, as the last finished attempt measured it, operations per second."""
    matmul_rates: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """The same by the width of a layer, for a few hundred tokens; empty until an attempt has measured it."""
    run_id: Mapped[int | None] = mapped_column(default=None)
    """A run that it executes, with several GPUs one of several; None when idle."""
    draining: Mapped[bool] = mapped_column(default=False)
    """It was told to stop, so it hands its run back."""
    started_at: Mapped[datetime] = mapped_column(default=now)
    heartbeat_at: Mapped[datetime] = mapped_column(default=now, index=True)

    @property
    def devices(self) -> list[VisibleGpu]:
        """The GPUs that it may use; the attempts that have them are in `DeviceRow`."""
        return [VisibleGpu.model_validate(device) for device in self.devices_json]


LIVE = ("queued", "running")
"""States of work that has not ended."""


class WorkRow(Base):
    """A request to a worker, and what became of it."""

    __abstract__ = True

    id: Mapped[int] = mapped_column(primary_key=True)
    status: Mapped[str] = mapped_column(String(20), default="queued", index=True)
    """`queued`, `running`, `succeeded`, `failed` or `cancelled`."""
    epoch: Mapped[int] = mapped_column(default=0)
    """Number of claims; it fences the writes of a worker whose claim was taken over."""
    attempts: Mapped[int] = mapped_column(default=0)
    """Claims that were not handed back."""
    progress: Mapped[float] = mapped_column(default=0.0)
    """Share of the work that is done, 0 to 1."""
    message: Mapped[str] = mapped_column(default="")
    """Why it failed."""
    created_at: Mapped[datetime] = mapped_column(default=now)
    started_at: Mapped[datetime | None] = mapped_column(default=None)
    """Start of the current claim."""
    ended_at: Mapped[datetime | None] = mapped_column(default=None)
    seen_at: Mapped[datetime | None] = mapped_column(default=None)
    """Last heartbeat of the worker that has it."""
    rung_at: Mapped[datetime | None] = mapped_column(default=None)
    """When a worker was last rung for."""

    @property
    def live(self) -> bool:
        """It has not ended."""
        return self.status in LIVE


class Repeated:
    """Work that is tried again and again at times, by one attempt at a time."""

    next_at: Mapped[datetime | None] = mapped_column(index=True)
    leased_until: Mapped[datetime | None] = mapped_column(default=None)
    """While an attempt goes on: until when it has the work unless it renews this."""


class DeviceUsageRow(Base):
    """The device time of an attempt that has ended, in whatever way. It stays when its run is deleted. An attempt has
    one row, so it cannot be charged twice."""

    __tablename__ = "device_usage"
    seen = UNFILTERED
    __table_args__ = (
        UniqueConstraint("run_id", "epoch"),
        Index("ix_device_usage_user", "user_id", "ended_at", "seconds"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int]
    """Who owned the run at the attempt's end."""
    run_id: Mapped[int]
    epoch: Mapped[int]
    ended_at: Mapped[datetime]
    """It decides the month."""
    seconds: Mapped[float]
    """Device-seconds: of several devices, the time times their number; of a group, the run's share."""


class ClockRow(Base):
    """The boot since which the clock counts, in a single row."""

    __tablename__ = "clock"
    seen = UNFILTERED

    id: Mapped[int] = mapped_column(primary_key=True)
    boot_id: Mapped[str] = mapped_column(String(64))
    booted_at: Mapped[datetime]
    """By the wall clock when a process first wrote after the boot."""
