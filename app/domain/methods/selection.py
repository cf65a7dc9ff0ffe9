"""Methods that add nothing: some of the model's own parameters train, the others are frozen.

full          every parameter                                          P
last-layers   the last k blocks, what follows them, and the head       Σ over those
bitfit        every bias vector, and the head                          Σ biases
head-only     the new head                                             0 beside the head
"""

from typing import ClassVar, Literal

from pydantic import Field

from app.domain.errors import FieldError
from app.domain.messages import _, at_most
from app.domain.methods.base import Mechanism, Method, MethodFacts, Unchanged
from app.domain.models.architecture import LinearFacts, ParameterFacts, TaskModel, Tensor


class Selection(Method):
    """A rule that says of each parameter whether it trains."""

    mechanism: ClassVar[Mechanism] = "selection"

    def selects(self, parameter: ParameterFacts, model: TaskModel) -> bool:
        """Whether a parameter of the untouched model trains."""
        raise NotImplementedError

    def trains(self, model: TaskModel) -> list[Tensor]:
        """The selected parameters, under their own names."""
        return [Tensor(p.name, p.shape, group(p.name)) for p in model.parameters if self.selects(p, model)]

    def changed_layers(self, model: TaskModel) -> list[LinearFacts]:
        """The layers whose weight is selected."""
        chosen = {p.name for p in model.parameters if self.selects(p, model)}
        return [m for m in model.linear if f"{m.name}.weight" in chosen]


def group(name: str) -> str:
    """`bert.encoder`, `bert.embeddings`, `classifier`: the first level of the base model, and the head's parts."""
    parts = name.split(".")[:-1]
    return ".".join(parts[:2]) if len(parts) > 2 else parts[0]


class FullSpec(Selection):
    """Full fine-tuning: every weight trains (Devlin et al. 2018, arXiv 1810.04805, section 3.2)."""

    facts: ClassVar[MethodFacts] = MethodFacts(
        kind="full",
        family="full",
        name=_("full"),
        summary=_("every weight trains"),
        learning_rate=1e-4,
        paper="Devlin et al. 2018, arXiv 1810.04805",
        formula=_("all of the model"),
    )
    freezes_base: ClassVar[bool] = False
    kind: Literal["full"] = "full"

    def selects(self, parameter: ParameterFacts, model: TaskModel) -> bool:
        """Every one."""
        return True


class HeadOnlySpec(Selection):
    """Linear probe: the base model is frozen, only the new head trains (Alain & Bengio 2016, arXiv 1610.01644)."""

    facts: ClassVar[MethodFacts] = MethodFacts(
        kind="head-only",
        family="head",
        name=_("head only"),
        summary=_("the base model is frozen, its new head trains"),
        learning_rate=3e-2,
        paper="Alain & Bengio 2016, arXiv 1610.01644",
        formula=_("0"),
        tasks=("sequence-classification",),
    )
    unchanged: ClassVar[Unchanged | None] = "head"
    kind: Literal["head-only"] = "head-only"

    def selects(self, parameter: ParameterFacts, model: TaskModel) -> bool:
        """The head's."""
        return model.in_head(parameter.name)


class LastLayersSpec(Selection):
    """The last k transformer blocks, what follows them (a final norm, a pooler) and the new head train; embeddings and
    lower blocks are frozen (Lee et al. 2019, arXiv 1911.03090)."""

    facts: ClassVar[MethodFacts] = MethodFacts(
        kind="last-layers",
        family="partial",
        name=_("last layers"),
        summary=_("the last few blocks and the head train"),
        learning_rate=2e-4,
        paper="Lee et al. 2019, arXiv 1911.03090",
        formula=_("layers × parameters of a block, and of what follows the last one"),
    )
    kind: Literal["last-layers"] = "last-layers"
    layers: int = Field(default=2, ge=1, le=1000)
    """How many blocks, counted from the output; of an encoder-decoder, from the decoder's output."""

    @property
    def label(self) -> str:
        """`last 2 layers`."""
        return f"last {self.layers} layers" if self.layers > 1 else "last layer"

    def selects(self, parameter: ParameterFacts, model: TaskModel) -> bool:
        """In one of the last blocks, or behind them; a weight that is tied to the embeddings counts as theirs."""
        block = model.block_of(parameter.name)
        if block is not None:
            return block >= len(model.blocks) - self.layers
        return model.in_head(parameter.name) or model.follows_blocks(parameter.name)

    def incompatibility(self, model: TaskModel) -> FieldError | None:
        """More layers than there are."""
        if self.layers > len(model.blocks):
            what = _(
                "%(architecture)s has %(blocks)s blocks, fewer than %(layers)s",
                architecture=model.architecture,
                blocks=len(model.blocks),
                layers=self.layers,
            )
            return FieldError("layers", what, at_most(len(model.blocks)))
        return super().incompatibility(model)


class BitFitSpec(Selection):
    """BitFit: the bias vectors and the new head train (Ben Zaken et al. 2021, arXiv 2106.10199)."""

    facts: ClassVar[MethodFacts] = MethodFacts(
        kind="bitfit",
        family="partial",
        name=_("BitFit"),
        summary=_("the bias vectors and the head train"),
        learning_rate=2e-3,
        paper="Ben Zaken et al. 2021, arXiv 2106.10199",
        formula=_("the sum of all bias vectors"),
    )
    unchanged: ClassVar[Unchanged | None] = "biases"
    kind: Literal["bitfit"] = "bitfit"

    def selects(self, parameter: ParameterFacts, model: TaskModel) -> bool:
        """A bias, or of the head."""
        return model.in_head(parameter.name) or parameter.name.endswith(".bias")

    def incompatibility(self, model: TaskModel) -> FieldError | None:
        """No bias at all, as in T5 and Llama."""
        if not model.has_bias:
            return FieldError(
                "kind",
                _("%(architecture)s has no bias vectors, which BitFit trains", architecture=model.architecture),
                _("Use LoRA"),
            )
        return super().incompatibility(model)
