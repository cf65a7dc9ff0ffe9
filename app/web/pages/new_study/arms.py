"""The arms of the form: their fields, what they would train, and the methods to choose from."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from app.domain.errors import FieldError
from app.domain.methods import SPECS, Family
from app.domain.methods.base import LinearMethod
from app.domain.models.adaptations import Adaptation, adaptation, usual
from app.domain.models.architecture import TaskModel, short_names
from app.domain.studies.arms import ArmSpec
from app.web.forms.fields import ErrorsOf, Fields, FieldView
from app.web.pages.new_study.arm_form import METHOD, SHARED, ArmForm
from app.web.text import methods
from app.web.text.fields import ARM_FIELDS, METHOD_FIELDS


@dataclass(frozen=True)
class ArmFields:
    """An arm as it is filled in."""

    place: int
    form: ArmForm
    title: str
    fields: Fields
    adapted: Adaptation | None
    """What its method does to the chosen model; None while one of them is not known."""
    errors: tuple[FieldError, ...]
    """Errors of the arm as a whole."""
    modules: tuple[str, ...]
    """Names of the chosen model's linear layers, to pick from."""

    @classmethod
    def of(
        cls,
        place: int,
        form: ArmForm,
        title: str,
        model: TaskModel | None,
        placeholders: Mapping[str, str],
        errors_of: ErrorsOf,
    ) -> "ArmFields":
        """`placeholders`: what an empty field means, by its name. Learning rates to try are shown if they have one, or
        some are given."""
        path, method = f"arms.{place}.", form.method
        empty = {"target_modules": _default_targets(form.kind, model), "name": title} | dict(placeholders)

        def views() -> Iterator[FieldView]:
            for field in form.fields:
                value, below = form.value(f"{METHOD}{field.name}"), f"{path}{METHOD}"
                yield FieldView.of(METHOD_FIELDS, below, field, value, errors_of, empty.get(field.name, ""))
            for name, field in SHARED.items():
                if name != "learning_rates" or empty.get(name) or form.value(name):
                    yield FieldView.of(ARM_FIELDS, path, field, form.value(name), errors_of, empty.get(name, ""))

        return cls(
            place=place,
            form=form,
            title=title,
            fields=Fields.of(views(), METHOD_FIELDS, ARM_FIELDS),
            adapted=adaptation(method, model) if method and model else None,
            errors=tuple(errors_of(f"{path}{METHOD}kind")),
            modules=(*short_names(model.linear), "all-linear") if model else (),
        )


class Offer(NamedTuple):
    """A method that an arm may have."""

    kind: str
    name: str
    summary: str
    problem: str
    """Why no setting of it suits the chosen model and task; empty where one does."""


def offers(model: TaskModel | None) -> list[tuple[Family, str, list[Offer]]]:
    """Every method, below the title of its family."""
    return [
        (family, title, [Offer(m.kind, methods.name(m), methods.summary(m), _problem(m.kind, model)) for m in facts])
        for family, title, facts in methods.by_family()
    ]


def new_arm(kind: str, model: TaskModel | None) -> ArmForm:
    """An arm with its method's defaults, and with target modules where PEFT has no default for the model."""
    return ArmForm.of(ArmSpec(method=usual(kind, model))) if model else ArmForm.new(kind)


def _problem(kind: str, model: TaskModel | None) -> str:
    problem = usual(kind, model).incompatibility(model) if model else None
    return problem.sentence if problem and problem.path == "kind" else ""


def _default_targets(kind: str, model: TaskModel | None) -> str:
    spec = SPECS[kind]()
    return ", ".join(spec.defaults(model)) if model and isinstance(spec, LinearMethod) else ""
