"""The context of the form of a new study."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.domain.datasets import DatasetFacts
from app.domain.errors import FieldError
from app.domain.methods import METHODS, MethodFacts
from app.domain.models import ModelFacts
from app.store.tables import BaseModelRow, DatasetRow
from app.web.forms.study import StudyForm
from app.web.i18n import gettext as _
from app.web.i18n import marked
from app.web.plan import Plan

OWN_NAMES = {
    "name": marked("Name of the study"),
    "base_model": marked("Model"),
    "dataset": marked("Data"),
    "arms": marked("Arms"),
    "margin_points": marked("Margin"),
    "seeds": marked("Seeds"),
    "reference": marked("Reference"),
}


@dataclass(frozen=True)
class ModelChoice:
    """A base model that one may choose."""

    name: str
    source: str
    status: str
    message: str
    facts: ModelFacts | None

    @classmethod
    def of(cls, row: BaseModelRow) -> "ModelChoice":
        """From its row."""
        return cls(row.name, row.source, row.status, row.message, row.facts)


@dataclass(frozen=True)
class DataChoice:
    """A dataset that one may choose."""

    name: str
    title: str
    facts: DatasetFacts

    @classmethod
    def of(cls, row: DatasetRow) -> "DataChoice":
        """From its row."""
        return cls(row.name, row.title or row.name, row.facts)


@dataclass(frozen=True)
class NewStudyPage:
    """The form, what it would take, and what is wrong with it."""

    form: StudyForm
    models: tuple[ModelChoice, ...]
    data: tuple[DataChoice, ...]
    plan: Plan
    errors: tuple[FieldError, ...] = ()
    yaml: str = ""
    focus: str = ""
    """Where the keyboard goes: the button that was pressed may be gone."""

    @property
    def methods(self) -> Sequence[MethodFacts]:
        """What an arm may be."""
        return list(METHODS.values())

    @property
    def reference_options(self) -> list[tuple[str, str]]:
        """Arms that may be the reference; a name that was typed and fits none is kept."""
        titles = dict.fromkeys(arm.title for arm in self.form.arms) | dict.fromkeys([self.form.values["reference"]])
        return [(title, title) for title in titles if title]

    def errors_of(self, path: str) -> list[FieldError]:
        """What is wrong with a field."""
        return [error for error in self.errors if error.path == path]

    def has_field(self, path: str) -> bool:
        """An error of that path has a field that can be gone to."""
        arms = {f"arms.{place}.{name}" for place, arm in enumerate(self.form.arms) for name in arm.shown}
        return path in self.form.values or path == "arms" or path in arms

    def name_of(self, path: str) -> str:
        """A field as one would say it: `LoRA r=8, learning_rate`; empty where an error is about no single field."""
        head, _dot, last = path.rpartition(".")
        if head.startswith("arms."):
            place = head.split(".")[1]
            return f"{self.form.arms[int(place)].title}, {last}" if place.isdecimal() else last
        return _(OWN_NAMES[path]) if path in OWN_NAMES else last

    @property
    def default_targets(self) -> str:
        """What LoRA adapts in the chosen model unless modules are named."""
        facts = next((m.facts for m in self.models if m.name == self.form.values["base_model"]), None)
        return ", ".join(facts.default_target_modules) if facts else ""
