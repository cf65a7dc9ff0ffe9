"""What each method with default settings changes and trains in a base model, or why it is incompatible."""

from dataclasses import dataclass

from app.domain.errors import FieldError
from app.domain.methods import SPECS, AnyMethod, MethodFacts
from app.domain.methods.targets import ALL_LINEAR
from app.domain.models.architecture import TaskModel


@dataclass(frozen=True)
class Adaptation:
    """A method applied to a base model."""

    spec: AnyMethod
    total: int
    """Parameters of the model with its head."""
    trainable: int | None
    """None if the method is incompatible."""
    touches: tuple[str, ...]
    """Modules of the base model that the method changes or wraps, by full name."""
    incompatibility: FieldError | None
    """Why it is incompatible, with the field and the remedy."""
    advice: tuple[FieldError, ...]

    @property
    def facts(self) -> MethodFacts:
        return self.spec.facts


def adaptation(spec: AnyMethod, model: TaskModel) -> Adaptation:
    """Apply a method to a model with its number of labels."""
    incompatibility = spec.incompatibility(model)
    if incompatibility:
        return Adaptation(spec, model.total, None, (), incompatibility, ())
    touches = tuple(spec.touches(model))
    return Adaptation(spec, model.total, spec.trainable(model), touches, None, tuple(spec.advice(model)))


def adaptations(model: TaskModel) -> list[Adaptation]:
    """Every method with default settings."""
    return [adaptation(usual(kind, model), model) for kind in SPECS]


def usual(kind: str, model: TaskModel) -> AnyMethod:
    """A method with its defaults. If they name no target modules of the architecture, those of PEFT's LoRA, or all."""
    plain = SPECS[kind]()
    incompatibility = plain.incompatibility(model)
    if incompatibility is None or incompatibility.path != "target_modules":
        return plain
    for targets in (model.default_targets.get("lora"), ALL_LINEAR):
        tried = SPECS[kind].model_validate({"target_modules": targets})
        if targets and tried.incompatibility(model) is None:
            return tried
    return plain
