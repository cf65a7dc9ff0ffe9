"""The hosts of an attempt that trains on several."""

from datetime import datetime
from typing import Any

from sqlalchemy import Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from app.domain.runs.hosts import HostEnd
from app.store.database.base import Base
from app.store.database.seen import OF_RUN

IS_OPEN = text("ended IS NULL")
"""Condition of a partial index, verbatim and without bound values: otherwise SQLite does not use the index."""


class RunHostRow(Base):
    """A worker whose GPUs an attempt has, besides those of other workers. The claim of the first one inserts all of
    them; each has a lease of its own, and frees its own GPUs (docs/decisions/0040-runs-on-several-hosts.md)."""

    __tablename__ = "run_hosts"
    seen = OF_RUN

    run_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """No foreign key: a host may still have its GPUs when the run is deleted. The sweep deletes the row later."""
    epoch: Mapped[int] = mapped_column(primary_key=True)
    """Epoch of the attempt."""
    worker: Mapped[str] = mapped_column(String(120), primary_key=True)
    host: Mapped[int]
    """Its place among the hosts: 0 has rank 0, and the run's lease instead of one of its own."""
    address: Mapped[str] = mapped_column(String(60))
    """Address at which the other hosts reach it."""
    endpoint: Mapped[str | None] = mapped_column(String(80), default=None)
    """Host 0 only: `ADDRESS:PORT` of the rendezvous, once it is open."""
    resumes_from: Mapped[str | None] = mapped_column(String(200), default=None)
    """Host 0 only: the folder of the checkpoint from which all resume; None: from the beginning."""
    lease_expires_at: Mapped[datetime | None] = mapped_column(default=None)
    """None until it has joined."""
    ready: Mapped[bool] = mapped_column(default=False)
    """Its processes have started."""
    draining: Mapped[bool] = mapped_column(default=False)
    """Its worker was told to stop."""
    ended: Mapped[HostEnd | None] = mapped_column(String(20), default=None)
    """How its part ended."""
    failure_json: Mapped[dict[str, Any] | None] = mapped_column(default=None)
    """Why it failed, an `app.domain.failures.Failure`."""

    __table_args__ = (Index("ix_run_hosts_open", "lease_expires_at", sqlite_where=IS_OPEN, postgresql_where=IS_OPEN),)
