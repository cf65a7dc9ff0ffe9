"""The second step: how much of W, of ΔW and of a random matrix a low rank keeps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session
from starlette.datastructures import QueryParams

from app.domain.methods import LoraSpec
from app.domain.models.architecture import LinearFacts, TaskModel
from app.domain.models.weight_delta import WeightDeltaSummary
from app.features.lab.computations import MOST_SIDE, Matrices, MatricesRequest, Spectral
from app.features.lab.services import computations as lab_computations
from app.features.lab.services import learner as lab
from app.features.lab.services.computations import Computation
from app.features.lab.services.learner import OwnStudy
from app.services.data import samples
from app.services.resources.requests import model_fields
from app.store.models import queries as base_models
from app.store.runs import weight_deltas
from app.store.tables import BaseModelRow
from app.words.i18n import language

USUAL_RANK = 8
METHODS: Mapping[str, str] = {"weight": "base", "full": "full", "lora": "lora", "random": "random"}
"""The colour of each matrix."""
SYMBOLS: Mapping[str, str] = {"weight": "W", "full": "ΔW", "lora": "ΔW", "random": "R"}


@dataclass(frozen=True)
class LowRankStep:
    """What the step shows."""

    check: Computation | None
    """None until a base model is ready."""
    model: str
    layers: tuple[str, ...]
    """Linear layers to choose from, by full name: those that are small enough."""
    own: OwnStudy | None
    """A study of the model whose runs' ΔW are shown; None without one."""
    others: tuple[tuple[str, WeightDeltaSummary], ...]
    """Medians over all matrices of the study's first runs: of full fine-tuning, and of LoRA."""

    @classmethod
    def of(cls, session: Session, query: QueryParams) -> "LowRankStep":
        """From the address: `layer` names another layer than the query of the block in the middle."""
        own = next((study for study in lab.own_studies(session) if study.full.succeeded and study.lora.succeeded), None)
        row = base_models.by_name(session, own.comparison.spec.base_model) if own else samples.registered(session).model
        if row is None or row.status != "ready" or (facts := row.facts) is None:
            return cls(None, "", (), None, ())
        model = facts.task_model(next(iter(facts.tasks)), 2)
        small = [m for m in model.linear if max(m.in_features, m.out_features) <= MOST_SIDE]
        names = tuple(m.name for m in small)
        layer = query.get("layer", "")
        request = _request(session, row, model, layer if layer in names else _usual(model, small or model.linear), own)
        return cls(lab_computations.stored(session, request), row.name, names, own, _medians(session, own))

    @property
    def fields(self) -> list[tuple[str, str]]:
        """Names and values that request this computation."""
        return [("layer", self.layer)]

    @property
    def layer(self) -> str:
        """Full name of the layer."""
        request = self.check.request if self.check else None
        return request.layer if isinstance(request, MatricesRequest) else ""

    @property
    def result(self) -> Matrices | None:
        """The decompositions, once they are ready."""
        answer = self.check.answer if self.check else None
        return answer if isinstance(answer, Matrices) else None

    @property
    def usual(self) -> int:
        """Place of the rank at which the slider begins."""
        ranks = self.result.ranks if self.result else []
        return max((place for place, rank in enumerate(ranks) if rank <= USUAL_RANK), default=0)

    def kept(self, spectral: Spectral) -> float:
        """Share of the energy at the rank at which the slider begins."""
        return spectral.energy[self.usual]

    def saved(self, rank: int) -> float:
        """Share of the matrix's parameters that two factors of this rank save; negative if they have more."""
        result = self.result
        return 1 - rank * (result.rows + result.columns) / (result.rows * result.columns) if result else 0.0

    @property
    def methods(self) -> Mapping[str, str]:
        """The colour of each matrix."""
        return METHODS

    def data(self, words: Mapping[str, str]) -> dict[str, Any]:
        """What the script reads: the decompositions, and its sentences."""
        content = self.result.model_dump(mode="json") if self.result else {}
        return content | {"language": language(), "words": words, "methods": METHODS, "symbols": SYMBOLS}


def _usual(model: TaskModel, layers: Sequence[LinearFacts]) -> str:
    """The first projection of the attention in the middle of the model, of these layers."""
    middle = (len(model.blocks) - 1) // 2
    inside = [m for m in layers if model.block_of(m.name) == middle]
    attention = [m for m in inside if model.in_attention(m.name)]
    return next(iter(attention or inside or layers)).name


def _request(
    session: Session, row: BaseModelRow, model: TaskModel, layer: str, own: OwnStudy | None
) -> MatricesRequest:
    fields: dict[str, Any] = {}
    if own:
        full, lora = own.full.succeeded[0].run_id, own.lora.succeeded[0].run_id
        method = own.lora.spec.method
        trained = lab_computations.trained(session, {full: own.full.spec.method, lora: method})
        fields = trained.get(full, {})
        if isinstance(method, LoraSpec) and layer in {m.name for m in method.targets(model)}:
            fields = fields | trained.get(lora, {})
    return MatricesRequest(**model_fields(row), layer=layer, **fields)


def _medians(session: Session, own: OwnStudy | None) -> tuple[tuple[str, WeightDeltaSummary], ...]:
    if own is None:
        return ()
    runs = {arm.title: arm.succeeded[0].run_id for arm in (own.full, own.lora)}
    found = weight_deltas.summaries(session, list(runs.values()))
    return tuple((title, summary) for title, run in runs.items() if (summary := found.get(run)))
