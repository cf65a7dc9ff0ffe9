"""Low-rank adaptation (Hu et al. 2021, arXiv 2106.09685) and its variants, by PEFT.

    y = W·x + s·B·A·x      W [out, in] frozen,  A [r, in],  B [out, r],  s = lora_alpha / r

Each adapted layer trains r·(in + out) numbers instead of in·out. A starts random and B at zero, so training starts at
the base model. Variants, which can be combined:

    use_rslora            s = lora_alpha / √r, so that the update does not shrink as r grows
    use_dora              the rows of W + s·B·A, each divided by its norm, times a trained magnitude m [out]
    loraplus_lr_ratio     B learns faster than A by that factor
    init_lora_weights     A and B start from W's own directions, and what stays frozen is W − s·B·A
    bias                  bias vectors train too
"""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from app.domain.errors import FieldError
from app.domain.messages import _, at_most
from app.domain.methods.base import (
    WRAPPED,
    LinearMethod,
    MethodFacts,
    Targeted,
    Targets,
    checked_targets,
    layer,
    short,
)
from app.domain.models.architecture import LinearFacts, TaskModel, Tensor
from app.domain.validation import invalid_field

InitLora = bool | Literal["gaussian", "pissa", "pissa_niter_16", "olora", "orthogonal"]
RANK_SHARE = 4
"""A rank above a quarter of a matrix's smaller side is warned about."""


class Ranked(LinearMethod):
    """A method whose update of a layer is a product of a thin and a flat matrix."""

    rank_field: ClassVar[str] = "r"
    """The field that holds the rank."""

    @property
    def rank(self) -> int:
        """Rank of the update."""
        found: int = getattr(self, self.rank_field)
        return found

    def incompatibility(self, model: TaskModel) -> FieldError | None:
        """A rank above the matrix's."""
        return super().incompatibility(model) or self._impossible_rank(model)

    def _thinnest(self, model: TaskModel) -> LinearFacts | None:
        return min(self.targets(model), key=lambda m: min(m.in_features, m.out_features), default=None)

    def _impossible_rank(self, model: TaskModel) -> FieldError | None:
        """B·A has at most the rank of the matrix beside it; a higher one costs memory and adds nothing."""
        thinnest = self._thinnest(model)
        if thinnest is None or self.rank <= (most := min(thinnest.in_features, thinnest.out_features)):
            return None
        what = _(
            "%(module)s is %(shape)s, so a rank of %(rank)s adds nothing",
            module=thinnest.name,
            shape=shape(thinnest),
            rank=self.rank,
        )
        return FieldError(self.rank_field, what, at_most(most))

    def advice(self, model: TaskModel) -> list[FieldError]:
        """A rank above a quarter of the smaller side: what it costs, and the rank that would do."""
        thinnest = self._thinnest(model)
        if thinnest is None:
            return []
        inputs, outputs = thinnest.in_features, thinnest.out_features
        enough = max(1, min(inputs, outputs) // RANK_SHARE)
        if self.rank <= enough:
            return []
        cost = self.rank * (inputs + outputs)
        what = _(
            "A rank of %(rank)s is high for %(module)s (%(shape)s): A and B have %(parameters)s parameters, "
            "%(share)s of the matrix itself",
            rank=self.rank,
            module=thinnest.name,
            shape=shape(thinnest),
            parameters=f"{cost:,}",
            share=f"{cost / (inputs * outputs):.0%}",
        )
        remedy = _(
            "Fine-tuning updates are close to low rank: try %(usual)s, or at most %(most)s",
            usual=min(8, enough),
            most=enough,
        )
        return [FieldError(self.rank_field, what, remedy)]


def shape(m: LinearFacts) -> str:
    """Of a layer's matrix: `768 × 3072`, out × in."""
    return f"{m.out_features} × {m.in_features}"


class LowRank(Ranked):
    """What every form of LoRA has: a rank, a scale, and layers that it is put beside."""

    r: int = Field(default=8, ge=1, le=4096)
    """Rank of the update: A is [r, in], B is [out, r]."""
    lora_alpha: int = Field(default=16, ge=1, le=1_000_000)
    """The update is scaled by lora_alpha / r."""
    lora_dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of the inputs of A that is dropped while training."""
    target_modules: Annotated[Targets, BeforeValidator(checked_targets)] = None

    def pair(self, m: LinearFacts) -> list[Tensor]:
        """A and B beside one layer, as PEFT calls them."""
        group = f"lora_A, lora_B of {short(m)}"
        return [
            Tensor(f"{layer(m)}.lora_A.default.weight", (self.r, m.in_features), group),
            Tensor(f"{layer(m)}.lora_B.default.weight", (m.out_features, self.r), group),
        ]


class LoraSpec(LowRank, Targeted):
    """Low-rank adaptation: W·x + (lora_alpha / r)·B·A·x with W frozen."""

    facts: ClassVar[MethodFacts] = MethodFacts(
        kind="lora",
        family="lora",
        name=_("LoRA"),
        summary=_("two thin matrices beside each chosen layer train"),
        learning_rate=2e-3,
        paper="Hu et al. 2021, arXiv 2106.09685",
        formula=_("Σ r·(in + out) over the adapted layers; DoRA adds Σ out"),
    )
    peft_type: ClassVar[str] = "LORA"
    kind: Literal["lora"] = "lora"
    layers_to_transform: list[int] | None = Field(default=None, min_length=1)
    """Numbers of the blocks to adapt, from 0; None adapts all."""
    use_rslora: bool = False
    """Rank-stabilised scaling (Kalajdzievski 2023, arXiv 2312.03732)."""
    use_dora: bool = False
    """Weight-decomposed LoRA (Liu et al. 2024, arXiv 2402.09353)."""
    loraplus_lr_ratio: float | None = Field(default=None, ge=1.0, le=1000)
    """LoRA+ (Hayou et al. 2024, arXiv 2402.12354): B's learning rate is A's times this; the authors advise 16."""
    init_lora_weights: InitLora = True
    """True: A is random and B zero; `gaussian`: A is drawn from a normal distribution; False: B is random too.
    `pissa` (Meng et al. 2024, arXiv 2404.02948): A and B are the r largest singular directions of W, which keeps the
    rest; `pissa_niter_16` finds them faster, by randomised iteration. `olora` (Büyükakyüz 2024, arXiv 2406.01775): the
    first r of a QR decomposition. `orthogonal`: A and B are random with B·A = 0. What PiSSA and OLoRA train is kept as
    a LoRA of twice the rank, which fits the unchanged base model."""
    bias: Literal["none", "all", "lora_only"] = "none"
    """Which bias vectors train too."""

    @model_validator(mode="after")
    def _halves(self) -> Self:
        if self.init_lora_weights == "orthogonal" and self.r % 2:
            raise invalid_field(
                "r", _("Orthogonal initialization needs an even rank, but r is %(r)s", r=self.r), _("Use an even r")
            )
        return self

    @property
    def moves_base(self) -> bool:
        """PiSSA and OLoRA: A and B start as a part of W."""
        return isinstance(self.init_lora_weights, str) and self.init_lora_weights.startswith(("pissa", "olora"))

    @property
    def label(self) -> str:
        """`LoRA r=8`, `DoRA r=8`, `rsLoRA r=64`, `PiSSA r=8`, `LoRA+ r=8`."""
        name = "DoRA" if self.use_dora else "rsLoRA" if self.use_rslora else self.facts.name
        if isinstance(self.init_lora_weights, str):
            started = {"pissa": "PiSSA", "pissa_niter_16": "PiSSA", "olora": "OLoRA"}
            name = started.get(self.init_lora_weights, name) if name == self.facts.name else name
        return f"{name}{'+' if self.loraplus_lr_ratio else ''} r={self.r}"

    def targets(self, model: TaskModel) -> list[LinearFacts]:
        """As `target_modules` says, in the blocks that `layers_to_transform` names."""
        found = super().targets(model)
        if self.layers_to_transform is None:
            return found
        return [m for m in found if model.block_of(m.name) in self.layers_to_transform]

    def beside(self, m: LinearFacts) -> list[Tensor]:
        """A and B; m with DoRA."""
        tensors = self.pair(m)
        if self.use_dora:
            magnitude = f"{layer(m)}.lora_magnitude_vector.default.weight"
            tensors.append(Tensor(magnitude, (m.out_features,), f"magnitude of {short(m)}"))
        return tensors

    def trains(self, model: TaskModel) -> list[Tensor]:
        """What stands beside every target, the head's copy, and the biases that `bias` names."""
        return super().trains(model) + self._biases(model)

    def _biases(self, model: TaskModel) -> list[Tensor]:
        adapted = {m.name for m in self.targets(model)}
        tensors = []
        for p in model.parameters:
            owner, _, last = p.name.rpartition(".")
            if last != "bias" or model.in_head(p.name) or self.bias == "none":
                continue
            if owner in adapted:
                tensors.append(Tensor(f"{WRAPPED}.{owner}.base_layer.bias", p.shape, "bias"))
            elif self.bias == "all":
                tensors.append(Tensor(f"{WRAPPED}.{p.name}", p.shape, "bias"))
        return tensors

    def peft_options(self, model: TaskModel) -> dict[str, Any]:
        """The blocks are chosen by the targets' full names, and the optimizer knows LoRA+."""
        options = super().peft_options(model)
        return {name: options[name] for name in options.keys() - {"layers_to_transform", "loraplus_lr_ratio"}}

    def rate_factor(self, name: str) -> float:
        """LoRA+: B's rate is a multiple of A's."""
        return (self.loraplus_lr_ratio or 1.0) if ".lora_B." in name else 1.0

    def incompatibility(self, model: TaskModel) -> FieldError | None:
        """Blocks that are not there, or a start that PEFT cannot find for GPT-2's layers."""
        return self._no_block(model) or super().incompatibility(model) or self._no_start(model)

    def _no_block(self, model: TaskModel) -> FieldError | None:
        beyond = [i for i in self.layers_to_transform or [] if not 0 <= i < len(model.blocks)]
        if not beyond:
            return None
        what = _("%(architecture)s has no block %(block)s", architecture=model.architecture, block=beyond[0])
        return FieldError("layers_to_transform", what, _("Choose from 0 to %(last)s", last=len(model.blocks) - 1))

    def _no_start(self, model: TaskModel) -> FieldError | None:
        """PEFT's OLoRA decomposes the weight as it is stored, which is the wrong way round for a Conv1D."""
        stored = [m.name for m in self.targets(model) if m.transposed]
        if self.init_lora_weights != "olora" or not stored:
            return None
        what = _("%(module)s is a Conv1D layer (weight [in, out]), which OLoRA cannot decompose", module=stored[0])
        return FieldError("init_lora_weights", what, _('Use "pissa"'))
