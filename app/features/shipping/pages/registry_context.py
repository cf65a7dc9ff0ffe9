"""The contexts of the pages of the registry: every name, one name, and the form that registers an export."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.domain.comparison.fairness.export_gate import ExportGate
from app.domain.errors import FieldError
from app.features.shipping.rules.registry import Stage
from app.features.shipping.tables import ModelExportRow, ModelVersionRow, RegisteredModelRow, StageChangeRow
from app.features.shipping.words.registry import stage_name
from app.web.forms.errors import HasErrors
from app.words.i18n import gettext as _


@dataclass(frozen=True)
class RegistryEntry:
    """A name in the list."""

    model: RegisteredModelRow
    versions: Sequence[ModelVersionRow]

    @property
    def champion(self) -> ModelVersionRow | None:
        """The version that production uses."""
        return next((version for version in self.versions if version.stage is Stage.CHAMPION), None)

    @property
    def last_change(self) -> StageChangeRow:
        """Of any version."""
        return max((version.last_change for version in self.versions), key=lambda change: change.id)


@dataclass(frozen=True)
class RegistryPage:
    """Every name."""

    models: Sequence[RegistryEntry]


@dataclass(frozen=True)
class PromotionForm:
    """A change of a stage, as it is typed."""

    version: str = ""
    stage: str = Stage.CHAMPION.value
    reason: str = ""


@dataclass(frozen=True)
class RegisteredModelPage(HasErrors):
    """A name with its versions."""

    model: RegisteredModelRow
    versions: Sequence[ModelVersionRow]
    """The newest first."""
    present: frozenset[int]
    """Ids of their runs that have not been deleted."""
    address: str
    """Of the champion in the API."""
    form: PromotionForm = PromotionForm()
    errors: tuple[FieldError, ...] = ()
    stages: tuple[Stage, ...] = tuple(Stage)

    @property
    def choices(self) -> list[tuple[str, str]]:
        """Versions whose stage can change."""
        shown = [v for v in self.versions if v.export_id is not None or v.stage is not Stage.RETIRED]
        return [
            (
                str(v.number),
                _(
                    "%(number)s (%(stage)s, gate: %(gate)s)",
                    number=v.number,
                    stage=stage_name(v.stage),
                    gate=v.gate.value,
                ),
            )
            for v in shown
        ]

    @property
    def history(self) -> list[tuple[int, StageChangeRow]]:
        """Every change of a stage with the number of its version, the newest first."""
        changes = [(version.number, change) for version in self.versions for change in version.changes]
        return sorted(changes, key=lambda entry: -entry[1].id)


@dataclass(frozen=True)
class RegistrationPage(HasErrors):
    """The form that makes an export a version of a name."""

    export: ModelExportRow
    gate: ExportGate
    names: Sequence[str]
    """Those that are registered."""
    versions: Sequence[ModelVersionRow]
    """The export's versions."""
    name: str = ""
    form: PromotionForm = PromotionForm(stage=Stage.CANDIDATE.value)
    errors: tuple[FieldError, ...] = ()
    stages: tuple[Stage, ...] = (Stage.CANDIDATE, Stage.CHAMPION)
