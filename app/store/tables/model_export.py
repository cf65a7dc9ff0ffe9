"""Exports of runs' models: requests to the export process, and the files that it wrote."""

from typing import Any

from sqlalchemy import BigInteger, ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.domain.comparison.export_gate import ExportGate
from app.domain.models.exports import ExportedFile, ExportFormat
from app.store.files import run_folder
from app.store.tables.base import IDS_ARE_NEVER_REUSED
from app.store.tables.work import WorkRow

WEIGHTS = (".safetensors", ".gguf", ".onnx")
"""Ends of the names of files that hold weights."""


class ModelExportRow(WorkRow):
    """A run's model in a format. Its files are in the run's folder, in one of their own for each attempt."""

    __tablename__ = "model_exports"

    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"))
    format: Mapped[str] = mapped_column(String(40))
    predicted_bytes: Mapped[int] = mapped_column(BigInteger)
    """Of the weights."""
    files_json: Mapped[list[dict[str, Any]]] = mapped_column(default=list)
    stored_bytes: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    """Of these files."""
    gate_json: Mapped[dict[str, Any] | None] = mapped_column(default=None)
    owner_id: Mapped[int | None] = mapped_column(default=None)
    """The user who asked for it; its run decides who sees it."""

    __table_args__ = (UniqueConstraint("run_id", "format"), IDS_ARE_NEVER_REUSED)

    @property
    def form(self) -> ExportFormat:
        return ExportFormat(self.format)

    @property
    def files(self) -> list[ExportedFile]:
        """Its files by name; empty before it has succeeded."""
        return [ExportedFile.model_validate(file) for file in self.files_json]

    @property
    def gate(self) -> ExportGate | None:
        """Whether it scores as the run did; None before it has succeeded."""
        return ExportGate.model_validate(self.gate_json) if self.gate_json else None

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(file.bytes for file in self.files)

    @property
    def weights_bytes(self) -> int:
        """Of the files that hold weights."""
        return sum(file.bytes for file in self.files if file.name.endswith(WEIGHTS))

    @property
    def folder(self) -> str:
        """In the files store, of every attempt."""
        return f"{run_folder(self.run_id)}/exports/{self.id}"

    @property
    def prefix(self) -> str:
        """In the files store, of the current attempt."""
        return f"{self.folder}/{self.epoch}"
