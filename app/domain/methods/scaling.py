"""Rotation and scaling of the activations of frozen layers, by PEFT.

    OFT     y = W·R·x             R [in, in] orthogonal, in blocks of b along the diagonal:  R = (I − Q)·(I + Q)⁻¹
    (IA)³   y = l ⊙ (W·x)         l [out], on keys and values
            y = W·(l ⊙ x)         l [in], for the second feed-forward layer

Q is skew-symmetric, so a block of OFT has b·(b − 1)/2 parameters, its upper triangle. Both start at the base model:
Q at zero, l at one.
"""

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from pydantic import Field

from app.domain.errors import FieldError
from app.domain.messages import _, choose_from
from app.domain.methods.base import MethodFacts, Targeted, layer, short
from app.domain.methods.targets import PEFT_DEFAULT, Targets, chosen
from app.domain.models.architecture import LinearFacts, TaskModel, Tensor, short_names


class OftSpec(Targeted):
    """OFT: each layer's input is rotated, block by block, which keeps the lengths of W's rows and the angles between
    them (Qiu et al. 2023, arXiv 2306.07280; Cayley–Neumann form: Qiu et al. 2025, arXiv 2506.19847)."""

    facts: ClassVar[MethodFacts] = MethodFacts(
        kind="oft",
        family="scaling",
        name=_("OFT"),
        summary=_("an orthogonal rotation of each target module's input trains"),
        rate_multiple=5,
        paper="Qiu et al. 2023, arXiv 2306.07280",
        formula=_("Σ (in / b)·b·(b − 1)/2 over the target modules, with b = oft_block_size"),
    )
    peft_type: ClassVar[str] = "OFT"
    main_setting: ClassVar[tuple[str, str] | None] = ("b", "oft_block_size")
    transposed: ClassVar[bool] = False
    kind: Literal["oft"] = "oft"
    oft_block_size: int = Field(default=32, ge=2, le=65536)
    """b: the size of a block."""
    block_share: bool = False
    """All blocks of a layer share one rotation."""
    coft: bool = False
    """Constrained OFT (COFT): projects Q onto a ball of radius `eps`."""
    eps: float = Field(default=6e-5, gt=0, le=1)
    """Maximum rotation with `coft`."""
    use_cayley_neumann: bool = True
    """Invert I + Q by the first five terms of its Neumann series: faster, and R is only nearly orthogonal."""

    def beside(self, m: LinearFacts) -> list[Tensor]:
        """The upper triangles of the blocks' Q."""
        b = self.oft_block_size
        blocks = 1 if self.block_share else m.in_features // b
        return [Tensor(f"{layer(m)}.oft_R.default.weight", (blocks, b * (b - 1) // 2), f"oft_R of {short(m)}")]

    def problems(self, model: TaskModel) -> Iterator[FieldError]:
        """A block size that does not divide the input width of every target module."""
        yield from super().problems(model)
        widths = [m.in_features for m in self.targets(model)]
        for m in self.targets(model):
            if m.in_features % self.oft_block_size:
                what = _(
                    "%(module)s has %(inputs)s inputs, which is not a multiple of %(block_size)s",
                    module=m.name,
                    inputs=m.in_features,
                    block_size=self.oft_block_size,
                )
                able = [str(b) for b in range(2, min(widths) + 1) if not any(w % b for w in widths)]
                yield FieldError("oft_block_size", what, choose_from(able) if able else _("Use LoRA"))


class Ia3Spec(Targeted):
    """(IA)³: trained vectors scale keys, values and feed-forward activations (Liu et al. 2022,
    arXiv 2205.05638)."""

    facts: ClassVar[MethodFacts] = MethodFacts(
        kind="ia3",
        family="scaling",
        name=_("(IA)³"),
        summary=_("one scaling vector per target module trains"),
        rate_multiple=100,
        paper="Liu et al. 2022, arXiv 2205.05638",
        formula=_("Σ out over the target modules; in instead of out for feedforward_modules"),
    )
    peft_type: ClassVar[str] = "IA3"
    kind: Literal["ia3"] = "ia3"
    target_modules: Targets = PEFT_DEFAULT
    """The paper scales keys, values and the second feed-forward layer's input, and nothing else."""
    feedforward_modules: Targets = PEFT_DEFAULT
    """Target modules whose input is scaled instead of their output."""

    def feedforward(self, model: TaskModel) -> list[LinearFacts]:
        """The target modules whose input is scaled."""
        named = self.feedforward_modules
        if named == PEFT_DEFAULT:
            named = model.default_targets.get("ia3_feedforward", [])
        return chosen(named, self.targets(model))

    def trains(self, model: TaskModel) -> list[Tensor]:
        """One vector per target module, as a row or a column, and the head's copy."""
        inner, vectors = self.feedforward(model), []
        for m in self.targets(model):
            size = (1, m.in_features) if m in inner else (m.out_features, 1)
            vectors.append(Tensor(f"{layer(m)}.ia3_l.default", size, f"ia3_l of {short(m)}"))
        return vectors + self.head_copy(model)

    def peft_options(self, model: TaskModel) -> dict[str, Any]:
        """Full names for both lists."""
        return super().peft_options(model) | {"feedforward_modules": [m.name for m in self.feedforward(model)]}

    def problems(self, model: TaskModel) -> Iterator[FieldError]:
        """Feed-forward modules that are not target modules."""
        yield from super().problems(model)
        if self.feedforward_modules != PEFT_DEFAULT and not self.feedforward(model):
            real = ", ".join(short_names(self.targets(model)))
            what = _(
                "None of the target modules is in feedforward_modules %(feedforward_modules)r",
                feedforward_modules=self.feedforward_modules,
            )
            yield FieldError("feedforward_modules", what, _("Choose from: %(names)s", names=real))
