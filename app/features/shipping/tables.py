"""Exports of runs' models: requests to the export process, and the files that it wrote."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String, UniqueConstraint, false, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.domain.comparison.fairness.export_gate import ExportGate, GateOutcome
from app.domain.models.exports import ExportedFile, ExportFormat
from app.domain.models.server_address import MAX_MODEL_LENGTH, MAX_URL_LENGTH
from app.features.shipping.rules.parity import Parity
from app.features.shipping.rules.push import MAX_REPOSITORY_LENGTH
from app.features.shipping.rules.registry import MAX_NAME_LENGTH, MAX_REASON_LENGTH, Stage
from app.store.database.base import IDS_ARE_NEVER_REUSED, Base, now
from app.store.database.owned import Asked
from app.store.database.seen import OF_RUN, UNFILTERED, BelongsTo
from app.store.files.files import run_folder
from app.store.runs.tables.files import RunFiles
from app.store.users.tables import UserRow
from app.store.workers.tables import WorkRow

WEIGHTS = (".safetensors", ".gguf", ".onnx")
"""Ends of the names of files that hold weights."""


class ModelExportRow(RunFiles, WorkRow):
    """A run's model in a format. Its files are in the run's folder, in one of their own for each attempt."""

    __tablename__ = "model_exports"
    seen = OF_RUN

    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"))
    format: Mapped[str] = mapped_column(String(40))
    files_json: Mapped[list[dict[str, Any]]] = mapped_column(default=list)
    gate_json: Mapped[dict[str, Any] | None] = mapped_column(default=None)

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


class HubPushRow(WorkRow):
    """An export that goes to a repository of the hub."""

    __tablename__ = "hub_pushes"
    seen = BelongsTo("model_exports", "export_id")
    __table_args__ = IDS_ARE_NEVER_REUSED

    export_id: Mapped[int] = mapped_column(ForeignKey("model_exports.id", ondelete="CASCADE"), index=True)
    repository: Mapped[str] = mapped_column(String(MAX_REPOSITORY_LENGTH))
    private: Mapped[bool] = mapped_column(default=True)
    reason: Mapped[str] = mapped_column(String(MAX_REASON_LENGTH), default="")
    """Why an export that has not passed its gate is published."""
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"), default=None)
    """The user that pushes; None where Vezna runs for a single user."""
    own_token: Mapped[bool] = mapped_column(default=False, server_default=false())
    """The user had a hub token when it was submitted, so no other token pushes it."""
    card: Mapped[str]
    """The model card, as it was shown."""
    receipt: Mapped[str] = mapped_column(default="")
    """The signed receipt; empty where none could be signed."""
    commit: Mapped[str] = mapped_column(String(64), default="")
    """On the hub, once it has succeeded."""
    url: Mapped[str] = mapped_column(default="")
    """Of the repository."""


ONE_CHAMPION = text("stage = 'champion'")


class RegisteredModelRow(Base):
    """A name. Its row is locked by whatever changes its versions."""

    __tablename__ = "registered_models"
    seen = UNFILTERED
    __table_args__ = IDS_ARE_NEVER_REUSED

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(MAX_NAME_LENGTH), unique=True)
    revision: Mapped[int] = mapped_column(default=0)
    """Number of changes: registrations and changes of a stage."""
    created_at: Mapped[datetime] = mapped_column(default=now)


class ModelVersionRow(Base):
    """A version of a name. What it shows of run and export outlives both."""

    __tablename__ = "model_versions"
    seen = UNFILTERED
    """The registry has exports of runs that the team sees (`app.services.ownership.ownership`)."""

    id: Mapped[int] = mapped_column(primary_key=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("registered_models.id"))
    number: Mapped[int]
    """From 1."""
    stage_name: Mapped[str] = mapped_column("stage", String(20))
    export_id: Mapped[int | None] = mapped_column(ForeignKey("model_exports.id", ondelete="SET NULL"), index=True)
    """None once the export of a retired version was deleted."""
    exported_as: Mapped[int]
    """Id of the export, also after its deletion."""
    run_id: Mapped[int]
    """Of the run, which may have been deleted since."""
    study_id: Mapped[int | None]
    format: Mapped[str] = mapped_column(String(40))
    gate_name: Mapped[str] = mapped_column("gate", String(20))
    """Outcome of the export's gate."""
    receipt: Mapped[str] = mapped_column(default="")
    """The signed receipt, as a file has it; empty where none could be signed."""
    created_at: Mapped[datetime] = mapped_column(default=now)

    model: Mapped[RegisteredModelRow] = relationship(lazy="joined")
    changes: Mapped[list["StageChangeRow"]] = relationship(
        order_by="StageChangeRow.id", lazy="selectin", back_populates="version"
    )

    __table_args__ = (
        UniqueConstraint("model_id", "number"),
        Index(
            "uq_model_versions_champion",
            "model_id",
            unique=True,
            sqlite_where=ONE_CHAMPION,
            postgresql_where=ONE_CHAMPION,
        ),
        IDS_ARE_NEVER_REUSED,
    )

    @property
    def name(self) -> str:
        """Of the registered model."""
        return self.model.name

    @property
    def stage(self) -> Stage:
        """What it is for."""
        return Stage(self.stage_name)

    @property
    def form(self) -> ExportFormat:
        return ExportFormat(self.format)

    @property
    def gate(self) -> GateOutcome:
        """Outcome of the export's gate."""
        return GateOutcome(self.gate_name)

    @property
    def last_change(self) -> "StageChangeRow":
        """How it came to its stage."""
        return self.changes[-1]


class StageChangeRow(Base):
    """A version was registered, promoted or retired. Rows are only added."""

    __tablename__ = "stage_changes"
    seen = UNFILTERED
    __table_args__ = IDS_ARE_NEVER_REUSED

    id: Mapped[int] = mapped_column(primary_key=True)
    version_id: Mapped[int] = mapped_column(ForeignKey("model_versions.id"), index=True)
    before: Mapped[str | None] = mapped_column(String(20), default=None)
    """The stage; None for a registration."""
    after: Mapped[str] = mapped_column(String(20))
    reason: Mapped[str] = mapped_column(String(MAX_REASON_LENGTH), default="")
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"), default=None)
    """None where Vezna runs for a single user."""
    at: Mapped[datetime] = mapped_column(default=now)

    user: Mapped[UserRow | None] = relationship(lazy="joined")
    version: Mapped[ModelVersionRow] = relationship(back_populates="changes")

    @property
    def by(self) -> str:
        """Name or e-mail address of the user; empty for a single user."""
        return (self.user.name or self.user.email) if self.user else ""


class ParityCheckRow(Asked, WorkRow):
    """A server that is compared with a run."""

    __tablename__ = "parity_checks"
    seen = OF_RUN
    __table_args__ = IDS_ARE_NEVER_REUSED

    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), index=True)
    url: Mapped[str] = mapped_column(String(MAX_URL_LENGTH))
    """Base URL of the server."""
    model: Mapped[str] = mapped_column(String(MAX_MODEL_LENGTH))
    """The model's name there."""
    api_key: Mapped[str] = mapped_column(default="")
    """Encrypted; empty without a key, and once the check has ended."""
    sample: Mapped[int | None] = mapped_column(default=None)
    """Test items that are sent; None: all."""
    result_json: Mapped[dict[str, Any] | None] = mapped_column(default=None)

    @property
    def result(self) -> Parity | None:
        """None before it has succeeded."""
        return Parity.model_validate(self.result_json) if self.result_json else None
