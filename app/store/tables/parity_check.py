"""Parity checks: requests to a worker to compare a server with a run, and their results."""

from typing import Any

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from app.domain.comparison.parity import Parity
from app.domain.parity_check import MAX_MODEL_LENGTH, MAX_URL_LENGTH
from app.store.tables.base import IDS_ARE_NEVER_REUSED
from app.store.tables.work import WorkRow


class ParityCheckRow(WorkRow):
    """A server that is compared with a run."""

    __tablename__ = "parity_checks"
    __table_args__ = IDS_ARE_NEVER_REUSED

    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), index=True)
    url: Mapped[str] = mapped_column(String(MAX_URL_LENGTH))
    """Base URL of the server."""
    model: Mapped[str] = mapped_column(String(MAX_MODEL_LENGTH))
    """The model's name there."""
    api_key: Mapped[str] = mapped_column(default="")
    """Encrypted; empty without a key, and once the check has ended."""
    owner_id: Mapped[int | None] = mapped_column(default=None)
    """The user who asked for it; its run decides who sees it."""
    sample: Mapped[int | None] = mapped_column(default=None)
    """Test items that are sent; None: all."""
    result_json: Mapped[dict[str, Any] | None] = mapped_column(default=None)

    @property
    def result(self) -> Parity | None:
        """None before it has succeeded."""
        return Parity.model_validate(self.result_json) if self.result_json else None
