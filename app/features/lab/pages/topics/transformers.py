"""The first step: the parts of a model, and one attention head on a sentence, before and after fine-tuning."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy.orm import Session
from starlette.datastructures import QueryParams

from app.domain.errors import FieldError
from app.domain.messages import _, at_most
from app.features.lab.computations import MOST_SENTENCE, MOST_TOKENS, SENTENCES, Attention, AttentionRequest
from app.features.lab.pages.topics.calculator import LABELS, WELL_KNOWN, Calculator
from app.features.lab.queries import learner as rows
from app.features.lab.rules.blocks import HEAD, BlockPart, block_parts
from app.features.lab.rules.heads import Habit, Heads, Weights, habit
from app.features.lab.services import computations as lab_computations
from app.features.lab.services import learner as lab
from app.features.lab.services.computations import Computation
from app.services.data import samples
from app.services.resources.requests import model_fields
from app.store.database.ownership import owner_of
from app.store.models import queries as base_models
from app.store.tables import BaseModelRow

WITHOUT_MODELS = f"{WELL_KNOWN}BERT-base"
"""Shown before a model is registered."""
BASE_ONLY = "0"
"""The value of the field `run` for no run at all."""


class TrainedRun(NamedTuple):
    """A run of the model whose weights the heads can be computed with."""

    id: int
    label: str
    family: str
    fields: dict[str, Any]
    """Of the request."""
    mine: bool
    """Of the user; without login every run is."""


class HeadMap(NamedTuple):
    """A head's weights, with the base model's or the run's."""

    family: str
    """The method's, for the colour; `base` before training."""
    weights: Weights
    habit: Habit


@dataclass(frozen=True)
class HeadView:
    """The chosen head."""

    heads: Heads
    layer: int
    head: int
    """Both from 0."""
    maps: tuple[HeadMap, ...]
    """Before, and after a run."""

    @property
    def moved(self) -> float:
        """Share of its attention that the run moved."""
        return self.heads.moved(self.layer, self.head)

    @property
    def darkest(self) -> float:
        """The largest weight: both maps share its scale."""
        return max(float(shown.weights.max()) for shown in self.maps)

    @property
    def tokens(self) -> list[str]:
        return self.heads.answer.tokens

    @property
    def rests(self) -> bool:
        """Its tokens look at the first or the last one."""
        found = self.maps[-1].habit
        return found.kind == "token" and found.token in (0, len(self.tokens) - 1)


@dataclass(frozen=True)
class TransformerStep:
    """What the step shows."""

    calculator: Calculator
    parts: tuple[BlockPart, ...]
    check: Computation | None
    """None until a model with weights is registered, or if the sentence is refused."""
    model: str
    """Whose attention is computed: the chosen model, or the sample where that has no weights here."""
    sentence: str
    runs: tuple[TrainedRun, ...]
    """To choose from: the user's own first, then those of the team that the user may see."""
    run: TrainedRun | None
    view: HeadView | None
    """None until the computation is ready."""
    refusal: str = ""

    @classmethod
    def of(cls, session: Session, query: QueryParams) -> "TransformerStep":
        """From the address: `model`, `sentence`, `run`, and the chosen `layer` and `head`, both from 1."""
        sample = samples.registered(session).model
        usual = sample.name if sample and sample.facts else WITHOUT_MODELS
        calculator = Calculator.of(session, QueryParams({"model": query.get("model") or usual}))
        row = base_models.by_name(session, calculator.chosen) if calculator.chosen in calculator.registered else sample
        sentence = " ".join("".join(c if c.isprintable() else " " for c in query.get("sentence", "")).split())
        sentence = sentence or SENTENCES[0]
        parts = block_parts(calculator.model)
        if row is None or row.status != "ready":
            return cls(calculator, parts, None, "", sentence, (), None, None)
        runs = _runs(session, row)
        wanted = query.get("run", "")
        run = next((run for run in runs if str(run.id) == wanted), runs[0] if runs and wanted != BASE_ONLY else None)
        if len(sentence) > MOST_SENTENCE:
            text = _("The sentence has %(count)s characters", count=len(sentence))
            refusal = FieldError("sentence", text, at_most(MOST_SENTENCE)).sentence
            return cls(calculator, parts, None, row.name, sentence, runs, run, None, refusal)
        request = AttentionRequest(**model_fields(row), sentence=sentence, **(run.fields if run else {}))
        check = lab_computations.stored(session, request)
        view = _view(check.answer, run, query) if isinstance(check.answer, Attention) else None
        return cls(calculator, parts, check, row.name, sentence, runs, run, view)

    @property
    def fields(self) -> list[tuple[str, str]]:
        """Names and values that request this computation."""
        run = str(self.run.id) if self.run else BASE_ONLY
        return [("model", self.model), ("sentence", self.sentence), ("run", run)]

    @property
    def trained(self) -> bool:
        """The user has trained this model."""
        return any(run.mine for run in self.runs)

    @property
    def offered(self) -> tuple[str, ...]:
        """Sentences to choose from."""
        return SENTENCES

    @property
    def most_characters(self) -> int:
        """Of a sentence."""
        return MOST_SENTENCE

    @property
    def most_tokens(self) -> int:
        """Of a sentence that are shown."""
        return MOST_TOKENS

    @property
    def blocks(self) -> int:
        """Number of the model's blocks."""
        return len(self.calculator.model.blocks)

    @property
    def labels(self) -> int:
        """Of a new head; 0 for a language model."""
        return LABELS if self.calculator.model.head else 0

    @property
    def tied(self) -> bool:
        """The head has no parameters of its own: it uses the matrix of the embeddings."""
        return not next(part.parameters for part in self.parts if part.name == HEAD)


def _runs(session: Session, row: BaseModelRow) -> tuple[TrainedRun, ...]:
    found = {run.id: run for run in rows.newest_runs(session, lab.SEARCHED, row.id)}
    fields = lab_computations.trained(session, {run_id: run.spec.method for run_id, run in found.items()})
    user = owner_of(session)
    seen = [
        TrainedRun(run_id, run.spec.method.label, run.spec.method.facts.family, fields[run_id], run.owner_id == user)
        for run_id, run in found.items()
        if run_id in fields
    ]
    return tuple(sorted(seen, key=lambda run: not run.mine))


def _view(answer: Attention, run: TrainedRun | None, query: QueryParams) -> HeadView:
    heads = Heads(answer)
    layer, head = heads.most_moved or heads.clearest
    layer, head = _place(query, "layer", heads.layers, layer), _place(query, "head", heads.heads, head)
    maps = [_map("base", answer.weights(layer, head))]
    if run and answer.after:
        maps.append(_map(run.family, answer.weights(layer, head, after=True)))
    return HeadView(heads, layer, head, tuple(maps))


def _map(family: str, weights: Weights) -> HeadMap:
    return HeadMap(family, weights, habit(weights))


def _place(query: QueryParams, name: str, count: int, usual: int) -> int:
    """A layer or a head of the address, from 0."""
    text = query.get(name, "")
    return int(text) - 1 if text.isdecimal() and len(text) < 6 and 1 <= int(text) <= count else usual
