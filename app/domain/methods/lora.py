"""Low-rank adaptation (Hu et al. 2021, arXiv 2106.09685) and its variants, by PEFT.

    y = W·x + s·B·A·x      W [out, in] frozen,  A [r, in],  B [out, r],  s = lora_alpha / r

Each target module trains r·(in + out) parameters instead of in·out. A is initialized randomly and B to zero, so
training starts at the base model. Variants, which can be combined:

    use_rslora            rsLoRA: s = lora_alpha / √r, so that the update does not shrink as r grows
    use_dora              DoRA, weight-decomposed: m ⊙ V / ‖V‖ by rows, V = W + s·B·A, with a trained magnitude m
    loraplus_lr_ratio     LoRA+: the learning rate of B is a multiple of that of A
    init_lora_weights     PiSSA, OLoRA: A and B start from directions of W, and W − s·B·A is frozen
    bias                  bias vectors train too
"""

from collections.abc import Iterator
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, Field, model_validator

from app.domain.errors import FieldError
from app.domain.messages import Message, _, at_most
from app.domain.methods.base import WRAPPED, LinearMethod, MethodFacts, Targeted, layer, short
from app.domain.methods.targets import ALL_LINEAR
from app.domain.models.architecture import LinearFacts, TaskModel, Tensor
from app.domain.validation import invalid_field

InitLora = bool | Literal["gaussian", "pissa", "pissa_niter_16", "olora", "orthogonal"]
RANK_SHARE = 4
"""A rank above this share (1/4) of a matrix's smaller dimension gives a warning."""


class Ranked(LinearMethod):
    """A method with a low-rank update B·A of each target module."""

    rank_field: ClassVar[str] = "r"

    @property
    def rank(self) -> int:
        rank: int = getattr(self, self.rank_field)
        return rank

    def problems(self, model: TaskModel) -> Iterator[FieldError]:
        """A rank above that of the matrix: B·A cannot have a higher one; it costs memory and adds nothing."""
        yield from super().problems(model)
        thinnest = self._thinnest(model)
        if thinnest and self.rank > (most := full_rank(thinnest)):
            what = _(
                "%(module)s is %(shape)s, so a rank of %(rank)s adds nothing",
                module=thinnest.name,
                shape=shape(thinnest),
                rank=self.rank,
            )
            yield FieldError(self.rank_field, what, at_most(most))

    @property
    def needs_rank(self) -> bool:
        """Whether each target module must be of the rank: those that are named. "all-linear" also takes the narrow
        projections of a model, such as the gate of an expert [1, in], which a lower rank describes fully."""
        return self.target_modules != ALL_LINEAR

    def _thinnest(self, model: TaskModel) -> LinearFacts | None:
        """The target module of the lowest rank; of "all-linear", the one of the lowest sufficient rank, or else the
        highest."""
        targets = self.targets(model)
        able = targets if self.needs_rank else [m for m in targets if full_rank(m) >= self.rank]
        return min(able, key=full_rank) if able else max(targets, key=full_rank, default=None)

    def advice(self, model: TaskModel) -> list[FieldError]:
        """Attention alone; a rank above a quarter of the smaller dimension: its cost, and a sufficient rank."""
        thinnest = self._thinnest(model)
        if thinnest is None:
            return []
        return [*self._attention_advice(model), *self._rank_advice(thinnest)]

    def _attention_advice(self, model: TaskModel) -> list[FieldError]:
        if not self.attention_only(model):
            return []
        what = _(
            "LoRA on query and value alone fell behind full fine-tuning in our sample study. LoRA Without Regret "
            "(Schulman et al., 2025) reports this of attention-only LoRA also at an equal number of parameters, which "
            "our recipe on MiniLM did not reproduce"
        )
        return [FieldError("target_modules", what, _('Use "all-linear"'))]

    def _rank_advice(self, thinnest: LinearFacts) -> list[FieldError]:
        inputs, outputs = thinnest.in_features, thinnest.out_features
        enough = max(1, full_rank(thinnest) // RANK_SHARE)
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


def full_rank(m: LinearFacts) -> int:
    """The highest rank that a layer's matrix can have."""
    return min(m.in_features, m.out_features)


def shape(m: LinearFacts) -> str:
    """A layer's matrix as `768 × 3072`, out × in."""
    return f"{m.out_features} × {m.in_features}"


class LowRank(Ranked):
    """The fields of every kind of LoRA: rank, scaling, dropout, target modules."""

    main_setting: ClassVar[tuple[str, str] | None] = ("r", "r")
    r: int = Field(default=8, ge=1, le=4096)
    """Rank of the update: A is [r, in], B is [out, r]."""
    lora_alpha: int = Field(default=16, ge=1, le=1_000_000)
    """The update is scaled by lora_alpha / r."""
    lora_dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Dropout on the input of A."""

    def beside(self, m: LinearFacts) -> list[Tensor]:
        """A and B of one target module, by PEFT's names."""
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
        summary=_("a low-rank update B·A of each target module trains"),
        rate_multiple=10,
        paper="Hu et al. 2021, arXiv 2106.09685",
        formula=_("Σ r·(in + out) over the target modules; DoRA adds Σ out"),
    )
    peft_type: ClassVar[str] = "LORA"
    uncompiled: ClassVar[Message | None] = None
    kind: Literal["lora"] = "lora"
    layers_to_transform: list[int] | None = Field(default=None, min_length=1)
    """Indices of the blocks to adapt; None adapts all."""
    use_rslora: bool = False
    """Rank-stabilised scaling (Kalajdzievski 2023, arXiv 2312.03732)."""
    use_dora: bool = False
    """Weight-decomposed LoRA (Liu et al. 2024, arXiv 2402.09353)."""
    loraplus_lr_ratio: float | None = Field(default=None, ge=1.0, le=1000)
    """LoRA+ (Hayou et al. 2024, arXiv 2402.12354): ratio of B's learning rate to A's; the authors recommend 16."""
    init_lora_weights: InitLora = True
    """True: A is random and B zero. `gaussian`: A is drawn from a normal distribution. False: B is random too.
    `pissa` (Meng et al. 2024, arXiv 2404.02948): A and B are the r principal singular directions of W, and the residual
    is frozen; `pissa_niter_16` approximates them by randomized SVD. `olora` (Büyükakyüz 2024, arXiv 2406.01775): the
    first r columns of a QR decomposition. `orthogonal`: A and B are random with B·A = 0. Adapters of PiSSA and OLoRA
    are saved as a LoRA of twice the rank, which fits the original base model."""
    bias: Literal["none", "all", "lora_only"] = "none"
    """Which bias vectors train too."""

    def clash(self, training: BaseModel) -> FieldError | None:
        """DoRA in compiled blocks."""
        if self.use_dora and getattr(training, "compile_blocks", False):
            return self.not_compiled(_("DoRA was not tested in compiled blocks"))
        return super().clash(training)

    @model_validator(mode="after")
    def _halves(self) -> Self:
        if self.init_lora_weights == "orthogonal" and self.r % 2:
            raise invalid_field(
                "r", _("Orthogonal initialization needs an even rank, but r is %(r)s", r=self.r), _("Use an even r")
            )
        return self

    @property
    def moves_base(self) -> bool:
        """PiSSA and OLoRA: A and B are initialized from W."""
        return isinstance(self.init_lora_weights, str) and self.init_lora_weights.startswith(("pissa", "olora"))

    @property
    def needs_rank(self) -> bool:
        """PiSSA and OLoRA take r directions of each matrix."""
        return self.moves_base or super().needs_rank

    @property
    def label(self) -> str:
        """`LoRA r=8`, `DoRA r=8`, `rsLoRA r=64`, `PiSSA r=8`, `LoRA+ r=8`."""
        name = "DoRA" if self.use_dora else "rsLoRA" if self.use_rslora else self.facts.name
        if isinstance(self.init_lora_weights, str):
            started = {"pissa": "PiSSA", "pissa_niter_16": "PiSSA", "olora": "OLoRA"}
            name = started.get(self.init_lora_weights, name) if name == self.facts.name else name
        return f"{name}{'+' if self.loraplus_lr_ratio else ''} r={self.r}"

    def targets(self, model: TaskModel) -> list[LinearFacts]:
        """The target modules in the blocks of `layers_to_transform`."""
        targets = super().targets(model)
        if self.layers_to_transform is None:
            return targets
        return [m for m in targets if model.block_of(m.name) in self.layers_to_transform]

    def beside(self, m: LinearFacts) -> list[Tensor]:
        """A and B, and DoRA's magnitude."""
        tensors = super().beside(m)
        if self.use_dora:
            magnitude = f"{layer(m)}.lora_magnitude_vector.default.weight"
            tensors.append(Tensor(magnitude, (m.out_features,), f"magnitude of {short(m)}"))
        return tensors

    def trains(self, model: TaskModel) -> list[Tensor]:
        """The parameters of every target module, the head's copy, and the biases that `bias` selects."""
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
        """Full names already select the blocks, and the optimizer implements LoRA+."""
        options = super().peft_options(model)
        return {name: options[name] for name in options.keys() - {"layers_to_transform", "loraplus_lr_ratio"}}

    def rate_factor(self, name: str) -> float:
        """LoRA+: B's learning rate is a multiple of A's."""
        return (self.loraplus_lr_ratio or 1.0) if ".lora_B." in name else 1.0

    def problems(self, model: TaskModel) -> Iterator[FieldError]:
        """Blocks that do not exist, or an initialization that PEFT lacks for GPT-2's layers: its OLoRA decomposes the
        weight as stored, which is transposed in a Conv1D."""
        if beyond := [i for i in self.layers_to_transform or [] if not 0 <= i < len(model.blocks)]:
            what = _("%(architecture)s has no block %(block)s", architecture=model.architecture, block=beyond[0])
            remedy = _("Choose from 0 to %(last)s", last=len(model.blocks) - 1)
            yield FieldError("layers_to_transform", what, remedy)
        yield from super().problems(model)
        stored = [m.name for m in self.targets(model) if m.transposed]
        if self.init_lora_weights == "olora" and stored:
            what = _("%(module)s is a Conv1D layer (weight [in, out]), which OLoRA cannot decompose", module=stored[0])
            yield FieldError("init_lora_weights", what, _('Use "pissa"'))
