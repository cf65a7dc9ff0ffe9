"""The methods: how a base model is adapted, as a union of small specs tagged by `kind`.

A method is two files: its spec and its facts here, and `apply(model, spec)` in `worker/engine/methods/`.
LoRA's fields keep PEFT's names (`peft.LoraConfig`).
"""

from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from app.domain.names import wrong

Family = Literal["full", "lora", "head"]
"""What a colour and a marker stand for on pages and in charts."""


class _Method(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FullSpec(_Method):
    """Full fine-tuning: every weight trains."""

    kind: Literal["full"] = "full"


class HeadOnlySpec(_Method):
    """Linear probe: the base model is frozen, only the new head trains (Alain & Bengio 2016, arXiv 1610.01644)."""

    kind: Literal["head-only"] = "head-only"


class LoraSpec(_Method):
    """Low-rank adaptation (Hu et al. 2021, arXiv 2106.09685): W·x + (lora_alpha / r)·B·A·x with W frozen."""

    kind: Literal["lora"] = "lora"
    r: int = Field(default=8, ge=1, le=4096)
    """Rank of the update: A is [r, in], B is [out, r]."""
    lora_alpha: int = Field(default=16, ge=1, le=1_000_000)
    """The update is scaled by lora_alpha / r (by lora_alpha / √r with `use_rslora`)."""
    lora_dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of the inputs of A that is dropped while training."""
    target_modules: list[str] | Literal["all-linear"] | None = None
    """Ends of module names; or every linear layer of the base model; None is PEFT's choice for the architecture."""
    use_rslora: bool = False
    """Rank-stabilised scaling (Kalajdzievski 2023, arXiv 2312.03732)."""
    use_dora: bool = False
    """Weight-decomposed LoRA (Liu et al. 2024, arXiv 2402.09353)."""
    init_lora_weights: bool = True
    """B starts at zero, so training starts at the base model."""
    bias: Literal["none", "all", "lora_only"] = "none"
    """Which bias vectors train too."""

    @field_validator("target_modules", mode="before")
    @classmethod
    def _targets_are_named(cls, targets: object) -> object:
        """One error for the field; pydantic would give one for each way in which it may be written."""
        names = targets if isinstance(targets, list) else []
        named = bool(names) and all(isinstance(n, str) and n.strip() and n.isprintable() for n in names)
        if not named and targets not in (None, "all-linear"):
            raise wrong("", "name at least one module", 'a list such as ["query", "value"], or "all-linear"')
        return [name.strip() for name in names] or targets


MethodSpec = Annotated[FullSpec | LoraSpec | HeadOnlySpec, Field(discriminator="kind")]


class MethodFacts(BaseModel):
    """What a form, a chart and the docs need to know of a method."""

    model_config = ConfigDict(frozen=True)

    kind: str
    family: Family
    name: str
    summary: str
    learning_rate: float
    """Where to start; a study may tune it."""
    paper: str


METHODS: dict[str, MethodFacts] = {
    m.kind: m
    for m in (
        MethodFacts(
            kind="full",
            family="full",
            name="full",
            summary="every weight trains",
            learning_rate=1e-4,
            paper="Devlin et al. 2018, arXiv 1810.04805",
        ),
        MethodFacts(
            kind="lora",
            family="lora",
            name="LoRA",
            summary="two thin matrices beside each chosen layer train",
            learning_rate=2e-3,
            paper="Hu et al. 2021, arXiv 2106.09685",
        ),
        MethodFacts(
            kind="head-only",
            family="head",
            name="head only",
            summary="the base model is frozen, its new head trains",
            learning_rate=3e-2,
            paper="Alain & Bengio 2016, arXiv 1610.01644",
        ),
    )
}


def label(spec: FullSpec | LoraSpec | HeadOnlySpec) -> str:
    """A short name for people: `full`, `LoRA r=8`, `DoRA r=8`, `head only`."""
    if isinstance(spec, LoraSpec):
        name = "DoRA" if spec.use_dora else "rsLoRA" if spec.use_rslora else "LoRA"
        return f"{name} r={spec.r}"
    return METHODS[spec.kind].name


class LinearFacts(BaseModel):
    """One linear layer of a base model."""

    model_config = ConfigDict(frozen=True)

    name: str
    """Full dotted name, `encoder.layer.0.attention.self.query`."""
    in_features: int
    out_features: int
    bias: bool = True


def matching(targets: Sequence[str], modules: Iterable[LinearFacts]) -> list[LinearFacts]:
    """The modules that a list of targets names, by PEFT's rule: the whole name, or its end after a dot."""
    return [m for m in modules if any(m.name == t or m.name.endswith(f".{t}") for t in targets)]


def short_names(modules: Iterable[LinearFacts]) -> list[str]:
    """The distinct last parts of module names, in order of appearance: what one would write as a target."""
    return list(dict.fromkeys(m.name.rsplit(".", 1)[-1] for m in modules))
