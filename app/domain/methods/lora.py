"""Low-rank adaptation (Hu et al. 2021, arXiv 2106.09685) and its variants, by PEFT.

    y = W·x + s·B·A·x      W [out, in] frozen,  A [r, in],  B [out, r],  s = lora_alpha / r

Each adapted layer trains r·(in + out) numbers instead of in·out. A starts random and B at zero, so training starts at
the base model. `use_rslora`: s = lora_alpha / √r. `use_dora`: the columns of W + s·B·A are rescaled to a trained
magnitude m [out], which adds `out` numbers. `loraplus_lr_ratio`: B learns faster than A by that factor.
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from app.domain.architecture import LinearFacts, TaskModel, Tensor
from app.domain.errors import FieldError
from app.domain.methods.base import WRAPPED, LinearMethod, MethodFacts, Targeted, Targets, checked_targets

InitLora = bool | Literal["gaussian", "pissa", "pissa_niter_16", "olora", "orthogonal"]
RANK_SHARE = 4
"""A rank above a quarter of a matrix's smaller side is warned about."""


class LowRank(LinearMethod):
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
        layer, group = f"{WRAPPED}.{m.name}", f"lora_A, lora_B of {m.name.rsplit('.', 1)[-1]}"
        return [
            Tensor(f"{layer}.lora_A.default.weight", (self.r, m.in_features), group),
            Tensor(f"{layer}.lora_B.default.weight", (m.out_features, self.r), group),
        ]

    def unfit(self, model: TaskModel) -> FieldError | None:
        """A rank above the matrix's."""
        return super().unfit(model) or self._impossible_rank(model)

    def _thinnest(self, model: TaskModel) -> LinearFacts | None:
        return min(self.targets(model), key=lambda m: min(m.in_features, m.out_features), default=None)

    def _impossible_rank(self, model: TaskModel) -> FieldError | None:
        """B·A has at most the rank of the matrix beside it; a higher r costs memory and adds nothing."""
        thinnest = self._thinnest(model)
        if thinnest is None or self.r <= (most := min(thinnest.in_features, thinnest.out_features)):
            return None
        shape = f"{thinnest.out_features} × {thinnest.in_features}"
        return FieldError("r", f"{thinnest.name} is {shape}, so a rank of {self.r} adds nothing", f"at most {most}")

    def advice(self, model: TaskModel) -> list[FieldError]:
        """A rank above a quarter of the smaller side: what it costs, and the rank that would do."""
        thinnest = self._thinnest(model)
        if thinnest is None:
            return []
        side = min(thinnest.in_features, thinnest.out_features)
        enough = max(1, side // RANK_SHARE)
        if self.r <= enough:
            return []
        cost, full = (
            self.r * (thinnest.in_features + thinnest.out_features),
            thinnest.in_features * thinnest.out_features,
        )
        what = (
            f"a rank of {self.r} is high for {thinnest.name} ({thinnest.out_features} × {thinnest.in_features}): its "
            f"A and B hold {cost:,} numbers, {cost / full:.0%} of the matrix itself"
        )
        return [
            FieldError("r", what, f"the updates of fine-tuning are nearly of low rank: try r = 8, or at most {enough}")
        ]


class LoraSpec(LowRank, Targeted):
    """Low-rank adaptation: W·x + (lora_alpha / r)·B·A·x with W frozen."""

    facts: ClassVar[MethodFacts] = MethodFacts(
        kind="lora",
        family="lora",
        name="LoRA",
        summary="two thin matrices beside each chosen layer train",
        learning_rate=2e-3,
        paper="Hu et al. 2021, arXiv 2106.09685",
        formula="Σ r·(in + out) over the adapted layers; DoRA adds Σ out",
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
    """True: A is random and B zero. `pissa` (Meng et al. 2024, arXiv 2404.02948): A and B are the r largest singular
    directions of W, and W keeps the rest. `olora` (Büyükakyüz 2024, arXiv 2406.01775): of a QR decomposition."""
    bias: Literal["none", "all", "lora_only"] = "none"
    """Which bias vectors train too."""

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

    def trains(self, model: TaskModel) -> list[Tensor]:
        """A and B of every target, m with DoRA, the biases that `bias` names, and the head's copy."""
        tensors = []
        adapted = {m.name: m for m in self.targets(model)}
        for m in adapted.values():
            tensors += self.pair(m)
            if self.use_dora:
                magnitude = f"{WRAPPED}.{m.name}.lora_magnitude_vector.default.weight"
                tensors.append(Tensor(magnitude, (m.out_features,), f"magnitude of {m.name.rsplit('.', 1)[-1]}"))
        for p in model.parameters:
            owner, _, last = p.name.rpartition(".")
            if last != "bias" or model.in_head(p.name) or self.bias == "none":
                continue
            if owner in adapted:
                tensors.append(Tensor(f"{WRAPPED}.{owner}.base_layer.bias", p.shape, "bias"))
            elif self.bias == "all":
                tensors.append(Tensor(f"{WRAPPED}.{p.name}", p.shape, "bias"))
        return tensors + self.head_copy(model)

    def peft_options(self, model: TaskModel) -> dict[str, Any]:
        """PEFT gets full names: the end of a name, such as `dense`, could also be a layer of the head."""
        options = self.model_dump(exclude={"kind", "layers_to_transform", "loraplus_lr_ratio"})
        return options | {"target_modules": [m.name for m in self.targets(model)]}

    def rate_factor(self, name: str) -> float:
        """LoRA+: B's rate is a multiple of A's."""
        return (self.loraplus_lr_ratio or 1.0) if ".lora_B." in name else 1.0

    def unfit(self, model: TaskModel) -> FieldError | None:
        """Blocks that are not there."""
        if self.layers_to_transform is not None:
            beyond = [i for i in self.layers_to_transform if not 0 <= i < len(model.blocks)]
            if beyond:
                what = f"{model.architecture} has no block {beyond[0]}"
                return FieldError("layers_to_transform", what, f"from 0 to {len(model.blocks) - 1}")
        return super().unfit(model)
