"""GPUs, and the attempts that have them."""

from sqlalchemy import BigInteger, String
from sqlalchemy.orm import Mapped, mapped_column

from app.store.tables.base import Base


class DeviceRow(Base):
    """A GPU, however many workers see it. At most one attempt has it: a claim takes it, and the end of the attempt or
    the sweep frees it. A CPU has no row."""

    __tablename__ = "devices"

    uuid: Mapped[str] = mapped_column(String(80), primary_key=True)
    """Of the GPU or the MIG slice, the same on every worker: `GPU-…`, `MIG-…`."""
    name: Mapped[str] = mapped_column(String(200))
    memory_bytes: Mapped[int] = mapped_column(BigInteger)
    run_id: Mapped[int | None] = mapped_column(default=None)
    """The run that has it; None while it is free."""
    epoch: Mapped[int | None] = mapped_column(default=None)
    """Of the attempt that has it."""
    worker: Mapped[str | None] = mapped_column(String(120), default=None)
    """That executes this attempt."""
