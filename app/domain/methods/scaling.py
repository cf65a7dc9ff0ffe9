"""Methods that rotate or stretch what flows through frozen layers, by PEFT.

    OFT     y = W·R·x             R [in, in] orthogonal, in blocks of b along the diagonal:  R = (I − Q)·(I + Q)⁻¹
    (IA)³   y = l ⊙ (W·x)         l [out], on keys and values
            y = W·(l ⊙ x)         l [in], where the feed-forward part comes back to the width of the model

Q is skew-symmetric, so that a block of OFT has b·(b − 1)/2 numbers, its upper triangle. All start at the base model:
Q at zero, l at one.
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from app.domain.errors import FieldError
from app.domain.messages import _, choose_from
from app.domain.methods.base import MethodFacts, Targeted, Targets, checked_targets, chosen, layer, short
from app.domain.models.architecture import LinearFacts, TaskModel, Tensor, short_names


class OftSpec(Targeted):
    """OFT: each layer's input is rotated, block by block, which keeps the lengths of W's rows and the angles between
    them (Qiu et al. 2023, arXiv 2306.07280; Cayley–Neumann form: Qiu et al. 2025, arXiv 2506.19847)."""

    facts: ClassVar[MethodFacts] = MethodFacts(
        kind="oft",
        family="scaling",
        name=_("OFT"),
        summary=_("a rotation of each layer's input trains"),
        learning_rate=1e-3,
        paper="Qiu et al. 2023, arXiv 2306.07280",
        formula=_("Σ (in / b)·b·(b − 1)/2 over the adapted layers, with b = oft_block_size"),
    )
    peft_type: ClassVar[str] = "OFT"
    transposed: ClassVar[bool] = False
    kind: Literal["oft"] = "oft"
    oft_block_size: int = Field(default=32, ge=2, le=65536)
    """b: the side of a block."""
    block_share: bool = False
    """One block for the whole layer, repeated."""
    coft: bool = False
    """Hold Q within `eps` of zero: constrained OFT."""
    eps: float = Field(default=6e-5, gt=0, le=1)
    """How far the blocks may turn with `coft`."""
    use_cayley_neumann: bool = True
    """Invert I + Q by the first five terms of its Neumann series: faster, and R is only nearly orthogonal."""
    target_modules: Annotated[Targets, BeforeValidator(checked_targets)] = None

    @property
    def label(self) -> str:
        """`OFT b=32`."""
        return f"{self.facts.name} b={self.oft_block_size}"

    def beside(self, m: LinearFacts) -> list[Tensor]:
        """The upper triangles of the blocks' Q."""
        b = self.oft_block_size
        blocks = 1 if self.block_share else m.in_features // b
        return [Tensor(f"{layer(m)}.oft_R.default.weight", (blocks, b * (b - 1) // 2), f"oft_R of {short(m)}")]

    def incompatibility(self, model: TaskModel) -> FieldError | None:
        """Blocks that do not divide a layer's input."""
        return super().incompatibility(model) or self._uneven(model)

    def _uneven(self, model: TaskModel) -> FieldError | None:
        widths = [m.in_features for m in self.targets(model)]
        uneven = next((m for m in self.targets(model) if m.in_features % self.oft_block_size), None)
        if uneven is None:
            return None
        what = _(
            "%(module)s has %(inputs)s inputs, which is not a multiple of %(block_size)s",
            module=uneven.name,
            inputs=uneven.in_features,
            block_size=self.oft_block_size,
        )
        able = [str(b) for b in range(2, min(widths) + 1) if not any(w % b for w in widths)]
        return FieldError("oft_block_size", what, choose_from(able) if able else _("Use LoRA"))


class Ia3Spec(Targeted):
    """(IA)³: vectors that stretch keys, values and the inside of the feed-forward part (Liu et al. 2022,
    arXiv 2205.05638)."""

    facts: ClassVar[MethodFacts] = MethodFacts(
        kind="ia3",
        family="scaling",
        name=_("(IA)³"),
        summary=_("one vector a layer trains, which stretches what flows through it"),
        learning_rate=2e-2,
        paper="Liu et al. 2022, arXiv 2205.05638",
        formula=_("Σ out over the adapted layers; in, instead of out, where they are feedforward_modules"),
    )
    peft_type: ClassVar[str] = "IA3"
    kind: Literal["ia3"] = "ia3"
    target_modules: Annotated[Targets, BeforeValidator(checked_targets)] = None
    feedforward_modules: Annotated[Targets, BeforeValidator(checked_targets)] = None
    """Those targets whose input is stretched, not their output, named in the same ways; None takes PEFT's choice for
    the architecture."""

    def feedforward(self, model: TaskModel) -> list[LinearFacts]:
        """The targets whose input is stretched."""
        named = self.feedforward_modules
        if named is None:
            named = model.default_targets.get("ia3_feedforward", [])
        return chosen(named, self.targets(model))

    def trains(self, model: TaskModel) -> list[Tensor]:
        """A vector a target, as a row or as a column, and the head's copy."""
        inner = self.feedforward(model)
        vectors = [
            Tensor(f"{layer(m)}.ia3_l.default", (1, m.in_features) if m in inner else (m.out_features, 1), _group(m))
            for m in self.targets(model)
        ]
        return vectors + self.head_copy(model)

    def peft_options(self, model: TaskModel) -> dict[str, Any]:
        """Full names for both lists."""
        return super().peft_options(model) | {"feedforward_modules": [m.name for m in self.feedforward(model)]}

    def incompatibility(self, model: TaskModel) -> FieldError | None:
        """Feed-forward modules that are no targets."""
        return super().incompatibility(model) or self._no_feedforward(model)

    def _no_feedforward(self, model: TaskModel) -> FieldError | None:
        if self.feedforward_modules is None or self.feedforward(model):
            return None
        real = ", ".join(short_names(self.targets(model)))
        what = _(
            "None of the target modules is in feedforward_modules %(feedforward_modules)r",
            feedforward_modules=self.feedforward_modules,
        )
        return FieldError("feedforward_modules", what, _("Choose from: %(names)s", names=real))


def _group(m: LinearFacts) -> str:
    return f"ia3_l of {short(m)}"
