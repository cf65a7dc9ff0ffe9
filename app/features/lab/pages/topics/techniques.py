"""The fourth step: choose techniques, and see what each touches."""

from dataclasses import dataclass

from sqlalchemy.orm import Session
from starlette.datastructures import QueryParams

from app.domain.methods import METHODS, Family, MethodFacts
from app.domain.models.adaptations import Adaptation, adaptation
from app.domain.tasks import DEFAULT_TASK
from app.features.lab.pages.topics.calculator import Calculator, course_numbers
from app.features.lab.rules.techniques import Part, parts, technique
from app.features.lab.services.studies import MOST_METHODS
from app.services.data import samples
from app.words.i18n import gettext as _

USUAL = ("full", "lora", "bottleneck-adapter", "ia3", "prompt")


@dataclass(frozen=True)
class Techniques:
    """What the step shows."""

    calculator: Calculator
    kinds: tuple[str, ...]
    """Chosen methods; at most `MOST_METHODS`."""
    adapted: tuple[Adaptation, ...]
    """Those that suit the model."""
    unsuitable: tuple[Adaptation, ...]
    parts: tuple[Part, ...]
    startable: tuple[str, ...]
    """Chosen methods that suit the sample and its task."""
    left_out: tuple[str, ...]
    """Names of those that do not."""

    @classmethod
    def of(cls, session: Session, query: QueryParams) -> "Techniques":
        """From the address: `model`, and `kind` for each chosen method."""
        calculator = Calculator.of(session, query)
        model = calculator.model
        known = {facts.kind for _family, _title, methods in calculator.families for facts in methods}
        kinds = tuple(kind for kind in dict.fromkeys(query.getlist("kind")) if kind in known)[:MOST_METHODS] or USUAL
        found = [adaptation(technique(kind, model), model) for kind in kinds]
        able = tuple(adapted for adapted in found if adapted.incompatibility is None)
        unable = tuple(adapted for adapted in found if adapted.incompatibility)
        rows = tuple(parts(model, [adapted.spec for adapted in able]))
        sample = samples.registered(session).model
        facts = sample.facts if sample else None
        trained = facts.task_model(DEFAULT_TASK, 2) if facts else model
        others = [kind for kind in kinds if kind != "full"]
        fits = tuple(k for k in others if adaptation(technique(k, trained), trained).incompatibility is None)
        left_out = tuple(_(METHODS[kind].name) for kind in others if kind not in fits)
        return cls(calculator, kinds, able, unable, rows, fits, left_out)

    @property
    def most(self) -> int:
        """How many methods can be chosen."""
        return MOST_METHODS

    @property
    def course(self) -> tuple[int, int]:
        """T5-base as a whole, and what the course's LoRA trains of it."""
        return course_numbers()

    @property
    def families(self) -> list[tuple[Family, str, list[MethodFacts]]]:
        """Methods to choose from, by family."""
        return self.calculator.families
