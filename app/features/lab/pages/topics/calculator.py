"""A calculator of trainable parameters: a model, a method, its rank and target modules, from the page's address."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from sqlalchemy.orm import Session
from starlette.datastructures import QueryParams

from app.domain.errors import Invalid
from app.domain.methods import METHODS, SPECS, AnyMethod, Family, LoraSpec, MethodFacts
from app.domain.methods.base import LinearMethod
from app.domain.methods.lora import LowRank
from app.domain.models.adaptations import Adaptation, adaptation, usual
from app.domain.models.architecture import TaskModel, matching, short_names
from app.features.lab.services import lessons
from app.store.models import queries as base_models
from app.web.forms.errors import validated
from app.web.forms.fields import readable
from app.words.i18n import gettext as _
from app.words.i18n import localized
from app.words.models.methods import by_family

WELL_KNOWN = "known:"
"""Before the name of a well-known architecture, which a registered model may have too."""
USUAL_MODEL, USUAL_METHOD, USUAL_TARGETS = "T5-base", "lora", ("q", "v")
"""The second example of the course."""
LEFT_OUT = frozenset({"qlora", "lean-full", "lora-from-scratch"})
"""Methods whose weights or optimizer states have other sizes than four bytes a value, and one that counts like LoRA."""
FIELDS = frozenset({"model", "method", "r", "alpha", "target", "ticked"})
LABELS = 2
"""Of the head of a registered classifier."""
FLOAT, MOMENTS = 4, 2
"""Bytes of a value in float32, and the moments that AdamW keeps of each trainable one."""


class Target(NamedTuple):
    """The linear layers that one name selects."""

    name: str
    shapes: tuple[tuple[int, int, int], ...]
    """How many layers have which shape: count, out, in."""
    ticked: bool
    trains: int
    """Trainable parameters of the method in them."""


class Term(NamedTuple):
    """A part of the sum: matrices × r × (inputs + outputs)."""

    matrices: int
    inputs: int
    outputs: int


@dataclass(frozen=True)
class Calculator:
    """What a method trains on a model, computed from shapes."""

    registered: Mapping[str, TaskModel]
    chosen: str
    """The value of the field: a registered name, or a well-known one after `WELL_KNOWN`."""
    model: TaskModel
    method: str
    rank: str
    alpha: str
    targets: tuple[str, ...]
    """Names that are ticked."""
    adapted: Adaptation | None
    """None where the fields make no method."""
    error: str

    @classmethod
    def of(cls, session: Session, query: QueryParams, *, method: str = "") -> "Calculator":
        """From the address, with the second example of the course as the default; `method` leaves no choice of it."""
        registered = {
            row.name: facts.task_model(next(iter(facts.tasks)), LABELS)
            for row in base_models.everyone(session)
            if (facts := row.facts) and facts.tasks
        }
        known = {f"{WELL_KNOWN}{name}": known.model for name, known in lessons.architectures().items()}
        models = registered | known
        chosen = query.get("model", "")
        chosen = chosen if chosen in models else f"{WELL_KNOWN}{USUAL_MODEL}"
        model, method = models[chosen], method or query.get("method", "")
        method = method if method in _kinds() else USUAL_METHOD
        rank, alpha = query.get("r", "").strip()[:9], query.get("alpha", "").strip()[:9]
        sent = [name for name in query.getlist("target") if name in short_names(model.linear)]
        emptied = "ticked" in query and not query.getlist("target")
        if not FIELDS & set(query) and chosen.endswith(USUAL_MODEL):
            sent, alpha = [*USUAL_TARGETS], "32"
        spec, error = _spec(method, model, rank, alpha, sent)
        if emptied and issubclass(SPECS[method], LinearMethod):
            spec, error = None, _("No target module is chosen. Choose at least one.")
        adapted = adaptation(spec, model) if spec else None
        if adapted and adapted.incompatibility:
            error, adapted = adapted.incompatibility.sentence, None
        layers = spec.targets(model) if isinstance(spec, LinearMethod) and not emptied else []
        return cls(registered, chosen, model, method, rank, alpha, tuple(short_names(layers)), adapted, error)

    @property
    def name(self) -> str:
        """Of the model."""
        return self.chosen.removeprefix(WELL_KNOWN)

    @property
    def fields(self) -> list[tuple[str, str]]:
        """Names and values of the form."""
        spec = self.spec
        values = [("model", self.chosen), ("method", self.method), ("r", self.rank), ("alpha", self.alpha)]
        targets = [("target", name) for name in self.targets] if isinstance(spec, LinearMethod) else []
        return [("ticked", "1"), *((name, value) for name, value in values if value), *targets]

    @property
    def groups(self) -> list[tuple[str, list[tuple[str, str]]]]:
        """Models to choose from: values and names, registered ones first."""
        mine = [(name, name) for name in self.registered]
        known = [(f"{WELL_KNOWN}{name}", name) for name in lessons.architectures()]
        groups = [(_("Your models"), mine), (_("Well-known architectures"), known)]
        return [(title, options) for title, options in groups if options]

    @property
    def families(self) -> list[tuple[Family, str, list[MethodFacts]]]:
        """Methods to choose from, by family."""
        return by_family(_kinds())

    @property
    def ranked(self) -> bool:
        """The method has a rank."""
        return "r" in SPECS[self.method].model_fields

    @property
    def scaled(self) -> bool:
        """The method scales its update by alpha / r."""
        return "lora_alpha" in SPECS[self.method].model_fields

    @property
    def targeted(self) -> bool:
        """The method has target modules."""
        return issubclass(SPECS[self.method], LinearMethod)

    @property
    def spec(self) -> AnyMethod | None:
        """The method with its fields."""
        return self.adapted.spec if self.adapted else None

    @property
    def trainable(self) -> int:
        """Trainable parameters; 0 where the fields make no method."""
        return (self.adapted.trainable or 0) if self.adapted else 0

    @cached_property
    def lines(self) -> list[Target]:
        """The names of the model's linear layers."""
        spec = self.spec
        trained = {m.name for m in spec.targets(self.model)} if isinstance(spec, LinearMethod) else set()
        return [
            Target(
                name,
                tuple(
                    (count, out, into)
                    for (out, into), count in Counter((m.out_features, m.in_features) for m in layers).items()
                ),
                name in self.targets,
                sum(
                    tensor.size
                    for m in layers
                    if m.name in trained and isinstance(spec, LowRank)
                    for tensor in spec.beside(m)
                ),
            )
            for name in short_names(self.model.linear)
            if (layers := matching([name], self.model.linear))
        ]

    @property
    def terms(self) -> list[Term]:
        """How LoRA's number adds up: matrices of one shape together; empty for other methods."""
        spec = self.spec
        if not isinstance(spec, LowRank):
            return []
        shapes = Counter((m.in_features, m.out_features) for m in spec.targets(self.model))
        return [Term(count, into, out) for (into, out), count in shapes.items()]

    @property
    def extra(self) -> int:
        """What LoRA trains beside A and B: the new head."""
        rank = getattr(self.spec, "r", 0)
        return self.trainable - sum(term.matrices * rank * (term.inputs + term.outputs) for term in self.terms)

    @property
    def memory(self) -> list[tuple[str, int, int]]:
        """Bytes of full fine-tuning and of the method in float32: weights, gradients, moments of AdamW. Computed."""
        trains, total = self.trainable, self.model.total
        added = trains if self.spec and self.spec.mechanism != "selection" else 0
        parts = ((_("Weights"), total, total + added), (_("Gradients"), total, trains))
        lines = [(name, FLOAT * full, FLOAT * own) for name, full, own in parts]
        moments = FLOAT * MOMENTS
        return [*lines, (_("Moments of AdamW"), moments * total, moments * trains)]

    @property
    def file_bytes(self) -> int:
        """Of the adapter in float32, or of the whole model if all of it trains. Computed."""
        return FLOAT * self.trainable


def _kinds() -> list[str]:
    return [kind for kind in METHODS if kind not in LEFT_OUT]


def _spec(method: str, model: TaskModel, rank: str, alpha: str, targets: Sequence[str]) -> tuple[AnyMethod | None, str]:
    values: dict[str, Any] = usual(method, model).model_dump()
    for name, text in (("r", rank), ("lora_alpha", alpha)):
        if text and name in values:
            values[name] = readable(text)
    if targets and "target_modules" in values:
        values["target_modules"] = list(targets)
    try:
        return validated(SPECS[method], values), ""
    except Invalid as error:
        return None, "; ".join(str(localized(field.located)) for field in error.fields)


def course_numbers() -> tuple[int, int]:
    """T5-base as a whole, and with the course's LoRA: r=8 on q and v."""
    model: TaskModel = lessons.architectures()[USUAL_MODEL].model
    return model.total, LoraSpec(r=8, lora_alpha=32, target_modules=list(USUAL_TARGETS)).trainable(model)
