"""The model registry: names, their versions, and every change of a version's stage."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.domain.comparison.export_gate import GateOutcome
from app.domain.models.exports import ExportFormat
from app.domain.models.registry import MAX_NAME_LENGTH, MAX_REASON_LENGTH, Stage
from app.store.tables.base import IDS_ARE_NEVER_REUSED, Base, now
from app.store.tables.user import UserRow

ONE_CHAMPION = text("stage = 'champion'")


class RegisteredModelRow(Base):
    """A name. Its row is locked by whatever changes its versions."""

    __tablename__ = "registered_models"
    __table_args__ = IDS_ARE_NEVER_REUSED

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(MAX_NAME_LENGTH), unique=True)
    revision: Mapped[int] = mapped_column(default=0)
    """Number of changes: registrations and changes of a stage."""
    created_at: Mapped[datetime] = mapped_column(default=now)


class ModelVersionRow(Base):
    """A version of a name. What it shows of run and export outlives both."""

    __tablename__ = "model_versions"

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
