"""The third step: one adapted layer with its shapes, exact counts, and the equality check with PEFT."""

from dataclasses import dataclass

from sqlalchemy.orm import Session
from starlette.datastructures import QueryParams

from app.domain.errors import FieldError
from app.domain.messages import _
from app.domain.methods import LoraSpec
from app.domain.models.architecture import LinearFacts, TaskModel
from app.features.lab.computations import RANKS, Equality, EqualityRequest
from app.features.lab.pages.topics.calculator import Calculator, course_numbers
from app.features.lab.services import computations as lab_computations
from app.features.lab.services.computations import Computation
from app.services.data import samples
from app.services.resources.requests import model_fields
from app.store.models import queries as base_models
from app.store.tables import BaseModelRow

LOWEST, GROWTH, WIDEST = 3, 4, 52
"""Half the height of the narrow ends of A and B in the drawing, in pixels: at rank 1, added for each doubling of the
rank, and at most, which is that of the wide ends."""


@dataclass(frozen=True)
class InsideLayer:
    """What the step shows."""

    calculator: Calculator
    layer: LinearFacts | None
    """The first target module, in the middle of the model; None where the fields make no method."""
    check: Computation | None
    """The equality check; None until a model with weights is registered, or if it is refused."""
    checked_model: str
    checked_layer: str
    refusal: str = ""
    """Why the layer cannot be checked with these fields."""

    @classmethod
    def of(cls, session: Session, query: QueryParams) -> "InsideLayer":
        calculator = Calculator.of(session, query, method="lora")
        row = _model(session, calculator)
        layer = _middle(calculator.spec, calculator.model)
        if row is None or (facts := row.facts) is None:
            return cls(calculator, layer, None, "", "", calculator.error)
        model = calculator.model if row.name == calculator.chosen else facts.task_model(next(iter(facts.tasks)), 2)
        own = calculator.spec if row.name == calculator.chosen else LoraSpec(target_modules=["query"])
        checked = _middle(own, model)
        spec = calculator.spec
        if checked is None or not isinstance(spec, LoraSpec):
            return cls(calculator, layer, None, "", "", calculator.error)
        narrow = min(checked.in_features, checked.out_features)
        if spec.r > narrow:
            text = _("%(rank)s is more than the narrower side of %(layer)s", rank=spec.r, layer=checked.name)
            refusal = FieldError("r", text, _("Choose at most %(most)s", most=narrow))
            return cls(calculator, layer, None, row.name, checked.name, refusal.sentence)
        request = EqualityRequest(**model_fields(row), layer=checked.name, r=spec.r, lora_alpha=spec.lora_alpha)
        return cls(calculator, layer, lab_computations.stored(session, request), row.name, checked.name)

    @property
    def course(self) -> tuple[int, int]:
        """T5-base as a whole, and what the course's LoRA trains of it."""
        return course_numbers()

    @property
    def stops(self) -> tuple[int, ...]:
        """Ranks to choose from, with the one that was typed."""
        return tuple(sorted({*RANKS, getattr(self.calculator.spec, "r", RANKS[0])}))

    @property
    def half(self) -> float:
        """Half the height of the narrow ends in the drawing: it grows with the rank, not to scale."""
        rank = getattr(self.calculator.spec, "r", 8)
        return float(min(WIDEST, LOWEST + GROWTH * (rank.bit_length() - 1)))

    @property
    def scale(self) -> float:
        """alpha / r."""
        spec = self.calculator.spec
        return spec.lora_alpha / spec.r if isinstance(spec, LoraSpec) else 0.0

    @property
    def result(self) -> Equality | None:
        """Of the check, once it is ready."""
        answer = self.check.answer if self.check else None
        return answer if isinstance(answer, Equality) else None


def _model(session: Session, calculator: Calculator) -> BaseModelRow | None:
    """The chosen model where its weights are at hand, else the sample."""
    if calculator.chosen in calculator.registered:
        return base_models.by_name(session, calculator.chosen)
    sample = samples.registered(session).model
    return sample if sample and sample.status == "ready" else None


def _middle(spec: object, model: TaskModel) -> LinearFacts | None:
    """The first target module of the block in the middle, or of the model."""
    targets = spec.targets(model) if isinstance(spec, LoraSpec) else []
    middle = [m for m in targets if model.block_of(m.name) == (len(model.blocks) - 1) // 2]
    return next(iter(middle or targets), None)
