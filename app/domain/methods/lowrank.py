"""Other low-rank updates, by PEFT. W [out, in] is frozen; with s = alpha / r:

    AdaLoRA   W + s·B·diag(E)·A             A [r, in],  E [r],  B [out, r]; ranks are allocated by importance
    LoHa      W + s·(A₁·B₁) ⊙ (A₂·B₂)       A [out, r],  B [r, in]; the Hadamard product reaches rank r²
    LoKr      W + s·C ⊗ (A·B)               Kronecker product: C [a, c],  A [b, r],  B [r, d]; out = a·b,  in = c·d
    VeRA      W + diag(b)·B·diag(d)·A       A [r, in] and B [out, r] random, frozen, shared; b [out] and d [r] train

All start at the base model: E, B₂, C and b are initialized to zero.
"""

from math import isqrt
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from app.domain.errors import FieldError
from app.domain.messages import _, at_most
from app.domain.methods.base import MethodFacts, Targeted, layer, short
from app.domain.methods.lora import Ranked, shape
from app.domain.models.architecture import LinearFacts, TaskModel, Tensor
from app.domain.validation import invalid_field


class AdaLoraSpec(Ranked, Targeted):
    """AdaLoRA: every target module starts at rank `init_r`; the least important singular directions of all modules are
    pruned until the average rank is `target_r` (Zhang et al. 2023, arXiv 2303.10512).

    The importance of a direction is the smoothed sensitivity |weight · gradient| of its entries times its smoothed
    uncertainty (section 3.2). Regularization keeps A and B near orthogonal matrices (equation 4).
    """

    facts: ClassVar[MethodFacts] = MethodFacts(
        kind="adalora",
        family="low-rank",
        name=_("AdaLoRA"),
        summary=_("LoRA with a rank budget that moves to the most important modules"),
        rate_multiple=25,
        paper="Zhang et al. 2023, arXiv 2303.10512",
        formula=_("Σ init_r·(in + out + 1) over the target modules"),
    )
    peft_type: ClassVar[str] = "ADALORA"
    rank_field: ClassVar[str] = "init_r"
    kind: Literal["adalora"] = "adalora"
    init_r: int = Field(default=12, ge=2, le=4096)
    """Rank of every target module at the start."""
    target_r: int = Field(default=8, ge=1, le=4096)
    """Average rank of the target modules at the end."""
    lora_alpha: int = Field(default=32, ge=1, le=1_000_000)
    """The update is scaled by lora_alpha / init_r."""
    lora_dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Dropout on the input of A."""
    tinit: float = Field(default=0.1, ge=0, lt=1)
    """Share of the steps before the first pruning; PEFT has a number of steps here."""
    tfinal: float = Field(default=0.3, ge=0, lt=1)
    """Share of the steps after the last pruning."""
    deltaT: int = Field(default=1, ge=1, le=100_000)  # noqa: N815 - PEFT's name
    """Steps between two prunings."""
    beta1: float = Field(default=0.85, gt=0, lt=1)
    """EMA coefficient of the sensitivity."""
    beta2: float = Field(default=0.85, gt=0, lt=1)
    """EMA coefficient of the uncertainty."""
    orth_reg_weight: float = Field(default=0.5, ge=0, le=1000)
    """Weight of the regularization: the mean of ‖A·Aᵀ − I‖ and ‖Bᵀ·B − I‖ over all A and B (Frobenius norms)."""

    @model_validator(mode="after")
    def _there_is_something_to_drop(self) -> Self:
        if self.target_r >= self.init_r:
            remedy = _("Use less than init_r, which is %(init_r)s", init_r=self.init_r)
            raise invalid_field(
                "target_r",
                _(
                    "The target rank %(target_r)s is not below the initial rank %(init_r)s",
                    init_r=self.init_r,
                    target_r=self.target_r,
                ),
                remedy,
            )
        if self.tinit + self.tfinal >= 1:
            what = _(
                "tinit and tfinal take %(share)g of the steps, which leaves none for pruning",
                share=self.tinit + self.tfinal,
            )
            raise invalid_field("tfinal", what, _("Use shares that sum to less than 1"))
        return self

    @property
    def label(self) -> str:
        """`AdaLoRA r=12→8`."""
        return f"{self.facts.name} r={self.init_r}→{self.target_r}"

    def beside(self, m: LinearFacts) -> list[Tensor]:
        """A, E and B. E is zero at the start, and again where all directions of a module are pruned."""
        name, r, group = layer(m), self.init_r, f"lora_A, lora_E, lora_B of {short(m)}"
        return [
            Tensor(f"{name}.lora_A.default", (r, m.in_features), group),
            Tensor(f"{name}.lora_E.default", (r, 1), group, may_return=True),
            Tensor(f"{name}.lora_B.default", (m.out_features, r), group),
        ]

    def peft_options(self, model: TaskModel) -> dict[str, Any]:
        """The number of steps is only known to the training loop, which sets the schedule."""
        return super().peft_options(model) | {"tinit": 0, "tfinal": 0, "total_step": 1}

    def schedule(self, total: int) -> tuple[int, int]:
        """`tinit` and `tfinal` in steps, out of `total` steps, at least two: pruning needs a gradient first."""
        return int(self.tinit * total), min(int(self.tfinal * total), total - 2)


class Lycoris(Targeted):
    """What the methods of LyCORIS have in common."""

    transposed: ClassVar[bool] = False
    main_setting: ClassVar[tuple[str, str] | None] = ("r", "r")
    r: int = Field(default=8, ge=1, le=4096)
    """Rank of the factors that are products."""
    alpha: int = Field(default=16, ge=1, le=1_000_000)
    """The update is scaled by alpha / r."""
    rank_dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of the update's rows dropped in training."""
    module_dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of the target modules that skip their update at a training step."""


class LohaSpec(Lycoris):
    """LoHa: the Hadamard product of two low-rank matrices (Hyeon-Woo et al. 2021, arXiv 2108.06098, FedPara; as an
    adapter in LyCORIS, Yeh et al. 2023, arXiv 2309.14859)."""

    facts: ClassVar[MethodFacts] = MethodFacts(
        kind="loha",
        family="low-rank",
        name=_("LoHa"),
        summary=_("the Hadamard product of two low-rank updates trains"),
        rate_multiple=25,
        paper="Hyeon-Woo et al. 2021, arXiv 2108.06098",
        formula=_("Σ 2·r·(in + out) over the target modules"),
    )
    peft_type: ClassVar[str] = "LOHA"
    kind: Literal["loha"] = "loha"
    r: int = Field(default=4, ge=1, le=4096)
    """Rank of each factor; the product reaches r²."""
    alpha: int = Field(default=8, ge=1, le=1_000_000)

    def beside(self, m: LinearFacts) -> list[Tensor]:
        """Both pairs."""
        name, group = layer(m), f"hada_w1, hada_w2 of {short(m)}"
        return [
            Tensor(f"{name}.hada_w{i}_{part}.default", size, group)
            for i in (1, 2)
            for part, size in (("a", (m.out_features, self.r)), ("b", (self.r, m.in_features)))
        ]

    def advice(self, model: TaskModel) -> list[FieldError]:
        """An r whose square is above the rank of the matrix (FedPara, proposition 1)."""
        for m in self.targets(model):
            enough = isqrt(min(m.in_features, m.out_features) - 1) + 1
            if self.r > enough:
                what = _(
                    "The product reaches rank %(rank)s, but %(module)s is %(shape)s",
                    rank=self.r**2,
                    module=m.name,
                    shape=shape(m),
                )
                return [FieldError("r", what, _("Use %(enough)s, which already reaches full rank", enough=enough))]
        return []


def _factor(value: int) -> int:
    if value == 0:
        raise invalid_field("", _("0 divides no width"), _("Use −1, or the largest size of the smaller factor"))
    return value


class LokrSpec(Lycoris):
    """LoKr: the Kronecker product of a small matrix and a low-rank one (Edalati et al. 2022, arXiv 2212.10650, KronA;
    with a low-rank second factor in LyCORIS, Yeh et al. 2023, arXiv 2309.14859)."""

    facts: ClassVar[MethodFacts] = MethodFacts(
        kind="lokr",
        family="low-rank",
        name=_("LoKr"),
        summary=_("the Kronecker product of a small and a low-rank matrix trains"),
        rate_multiple=50,
        paper="Edalati et al. 2022, arXiv 2212.10650; Yeh et al. 2023, arXiv 2309.14859",
        formula=_("Σ a·c + r·(b + d), where out = a·b and in = c·d; b·d instead of r·(b + d) where r ≥ max(b, d) / 2"),
    )
    peft_type: ClassVar[str] = "LOKR"
    kind: Literal["lokr"] = "lokr"
    decompose_both: bool = False
    """The first factor is of rank r too."""
    decompose_factor: Annotated[int, AfterValidator(_factor)] = Field(default=-1, ge=-1)
    """Largest dimension of the first factor; −1: the divisor nearest to the square root of the width."""

    def beside(self, m: LinearFacts) -> list[Tensor]:
        """Both factors, each full or as a product."""
        (a, b), (c, d) = factors(m.out_features, self.decompose_factor), factors(m.in_features, self.decompose_factor)
        first = self._matrix("w1", a, c, self.decompose_both)
        second = self._matrix("w2", b, d, True)
        group = f"lokr_w1, lokr_w2 of {short(m)}"
        return [Tensor(f"{layer(m)}.lokr_{name}.default", size, group) for name, size in first + second]

    def _matrix(self, name: str, rows: int, columns: int, thin: bool) -> list[tuple[str, tuple[int, int]]]:
        """A full matrix, or a product of rank r where it may be one and that has fewer parameters."""
        if thin and 2 * self.r < max(rows, columns):
            return [(f"{name}_a", (rows, self.r)), (f"{name}_b", (self.r, columns))]
        return [(name, (rows, columns))]

    def advice(self, model: TaskModel) -> list[FieldError]:
        """An r without effect, because the second factor is a full matrix."""
        for m in self.targets(model):
            b, d = (factors(n, self.decompose_factor)[1] for n in (m.out_features, m.in_features))
            if 2 * self.r >= max(b, d):
                what = _(
                    "The second factor of %(module)s is %(rows)s × %(columns)s and is not decomposed further, so r "
                    "only scales the update",
                    module=m.name,
                    rows=b,
                    columns=d,
                )
                largest = (max(b, d) - 1) // 2
                remedy = at_most(largest) if largest else _("Use a smaller decompose_factor")
                return [FieldError("r", what, remedy)]
        return []


def factors(n: int, factor: int) -> tuple[int, int]:
    """A width as a product, the smaller first: `factor` itself where it divides n, else the divisor nearest to √n from
    below and, unless `factor` is −1, no larger than it."""
    if factor > 0 and n % factor == 0:
        return factor, n // factor
    most = isqrt(n) if factor == -1 else min(isqrt(n), factor)
    small = next(d for d in range(most, 0, -1) if n % d == 0)
    return small, n // small


class VeraSpec(Targeted):
    """VeRA: all target modules share one pair of frozen random matrices and train two vectors that scale their rows
    (Kopiczko et al. 2023, arXiv 2310.11454)."""

    facts: ClassVar[MethodFacts] = MethodFacts(
        kind="vera",
        family="low-rank",
        name=_("VeRA"),
        summary=_("two scaling vectors per target module train, around shared frozen random matrices"),
        rate_multiple=50,
        paper="Kopiczko et al. 2023, arXiv 2310.11454",
        formula=_("Σ r + out over the target modules"),
    )
    peft_type: ClassVar[str] = "VERA"
    main_setting: ClassVar[tuple[str, str] | None] = ("r", "r")
    kind: Literal["vera"] = "vera"
    r: int = Field(default=256, ge=1, le=65536)
    """Rank of the shared matrices, A [r, the largest in] and B [the largest out, r]; a module takes a slice of them."""
    projection_prng_key: int = Field(default=0, ge=0, lt=2**32)
    """Seed of the shared matrices, independent of the run's seed."""
    save_projection: bool = True
    """Save the shared matrices with the adapter: r·(in + out) more numbers, and it loads identically everywhere."""
    vera_dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Dropout on the input of A."""
    d_initial: float = Field(default=0.1, gt=0, le=100)
    """Initial value of d."""

    def beside(self, m: LinearFacts) -> list[Tensor]:
        """b and d."""
        group = f"vera_lambda_b, vera_lambda_d of {short(m)}"
        return [
            Tensor(f"{layer(m)}.vera_lambda_b.default", (m.out_features,), group),
            Tensor(f"{layer(m)}.vera_lambda_d.default", (self.r,), group),
        ]
