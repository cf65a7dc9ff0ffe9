"""An arm of a study that is being planned: its fields, what it would train, and which methods another arm may have."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from app.domain.errors import FieldError
from app.domain.messages import Message
from app.domain.methods import SPECS, Family, MethodFacts
from app.domain.methods.base import LinearMethod
from app.domain.models.adaptations import Adaptation, adaptation, usual
from app.domain.models.architecture import TaskModel, short_names
from app.domain.studies.arms import ArmSpec
from app.web.forms.field_context import ErrorsOf, Fields, FieldView, view
from app.web.pages.new_study.arm_form import METHOD, SHARED, ArmForm
from app.web.text import methods
from app.web.text.families import by_family
from app.web.text.fields import ARM_FIELDS, METHOD_FIELDS


@dataclass(frozen=True)
class NewArm:
    """An arm as it is filled in."""

    place: int
    form: ArmForm
    fields: Fields
    adapted: Adaptation | None
    """What its method would do to the chosen model; None while that cannot be told."""
    errors: tuple[FieldError, ...]
    """What is wrong with it as a whole."""
    modules: tuple[str, ...]
    """Names of the chosen model's linear layers, to pick from."""

    @classmethod
    def of(
        cls, place: int, form: ArmForm, model: TaskModel | None, budget: Mapping[str, str], errors_of: ErrorsOf
    ) -> "NewArm":
        """From what was typed. `budget` is what an arm takes where it says nothing itself; with `learning_rates` in it,
        rates are tuned."""
        path = f"arms.{place}."
        method = form.method
        empty = {"target_modules": _default_targets(form.kind, model)} | dict(budget) | {"name": form.title}

        def views() -> Iterator[FieldView]:
            for field in form.fields:
                value, below = form.value(f"{METHOD}{field.name}"), f"{path}{METHOD}"
                yield view(METHOD_FIELDS, below, field, value, errors_of, empty.get(field.name, ""))
            for name, field in SHARED.items():
                if name == "learning_rates" and not empty.get(name) and not form.value(name):
                    continue  # it says something only where rates are looked for
                yield view(ARM_FIELDS, path, field, form.value(name), errors_of, empty.get(name, ""))

        return cls(
            place=place,
            form=form,
            fields=Fields.of(views(), METHOD_FIELDS, ARM_FIELDS),
            adapted=adaptation(method, model) if method and model else None,
            errors=tuple(errors_of(f"{path}{METHOD}kind")),
            modules=(*short_names(model.linear), "all-linear") if model else (),
        )

    @property
    def incompatibility(self) -> str:
        """Why its method does not fit the chosen model and task, as a sentence; empty where it does."""
        return self.adapted.incompatibility.sentence if self.adapted and self.adapted.incompatibility else ""

    @property
    def advice(self) -> list[Message]:
        """What one should know of it though it works, a sentence each."""
        return [advice.sentence for advice in (self.adapted.advice if self.adapted else ())]


@dataclass(frozen=True)
class MethodOffer:
    """A method that an arm may have."""

    facts: MethodFacts
    incompatibility: FieldError | None
    """Why no setting of it fits the chosen model and task."""

    @property
    def name(self) -> str:
        """What it is called."""
        return methods.name(self.facts)

    @property
    def summary(self) -> str:
        """What it does."""
        return methods.summary(self.facts)

    @property
    def why(self) -> str:
        """Why it does not fit, and what would."""
        return self.incompatibility.sentence if self.incompatibility else ""


@dataclass(frozen=True)
class FamilyOffer:
    """Methods of one family."""

    family: Family
    title: str
    methods: tuple[MethodOffer, ...]


def offers(model: TaskModel | None) -> tuple[FamilyOffer, ...]:
    """Every method, by family."""
    return tuple(
        FamilyOffer(family, title, tuple(MethodOffer(facts, _impossible(facts.kind, model)) for facts in found))
        for family, title, found in by_family()
    )


def new_arm(kind: str, model: TaskModel | None) -> ArmForm:
    """An arm with its method's defaults, and with layers that it can adapt where PEFT has no choice of its own."""
    return ArmForm.of(ArmSpec(method=usual(kind, model))) if model else ArmForm.new(kind)


def _impossible(kind: str, model: TaskModel | None) -> FieldError | None:
    incompatibility = usual(kind, model).incompatibility(model) if model else None
    return incompatibility if incompatibility and incompatibility.path == "kind" else None


def _default_targets(kind: str, model: TaskModel | None) -> str:
    spec = SPECS[kind]()
    return ", ".join(spec.defaults(model)) if model and isinstance(spec, LinearMethod) else ""
