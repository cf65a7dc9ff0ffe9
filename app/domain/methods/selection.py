"""Methods that add no parameters: some of the model's parameters train, the others are frozen.

full          every parameter                                          all
lean-full     every parameter, stored and updated in less memory       all
last-layers   the last k blocks, the layers after them, and the head   Σ over those
bitfit        every bias vector, and the head                          Σ biases
head-only     the new head                                             0 without the head
"""

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, Field

from app.domain.errors import FieldError
from app.domain.messages import Message, _, at_most
from app.domain.methods.base import Mechanism, Method, MethodFacts, Unchanged
from app.domain.models.architecture import LinearFacts, ParameterFacts, TaskModel, Tensor
from app.domain.runs.capabilities import Capability
from app.domain.tasks import tasks_where

Optim = Literal["adamw_torch", "adamw_bnb_8bit", "adafactor"]
"""Names of transformers' `TrainingArguments.optim`."""
WeightStorage = Literal["float32", "bf16-stochastic", "bf16-kahan"]


class Selection(Method):
    """A rule that selects trainable parameters."""

    mechanism: ClassVar[Mechanism] = "selection"
    uncompiled: ClassVar[Message | None] = None

    def selects(self, parameter: ParameterFacts, model: TaskModel) -> bool:
        """Whether a parameter of the base model trains."""
        raise NotImplementedError

    def trains(self, model: TaskModel) -> list[Tensor]:
        """The selected parameters, under their own names."""
        return [Tensor(p.name, p.shape, group(p.name)) for p in model.parameters if self.selects(p, model)]

    def changed_layers(self, model: TaskModel) -> list[LinearFacts]:
        """The linear layers whose weight is selected."""
        chosen = {p.name for p in model.parameters if self.selects(p, model)}
        return [m for m in model.linear if f"{m.name}.weight" in chosen]


def group(name: str) -> str:
    """`bert.encoder`, `bert.embeddings`, `classifier`: the first level of the base model, and the head's parts."""
    parts = name.split(".")[:-1]
    return ".".join(parts[:2]) if len(parts) > 2 else parts[0]


class EveryWeight(Selection):
    """Every parameter trains."""

    freezes_base: ClassVar[bool] = False

    def selects(self, parameter: ParameterFacts, model: TaskModel) -> bool:
        return True


class FullSpec(EveryWeight):
    """Full fine-tuning: every weight trains (Devlin et al. 2018, arXiv 1810.04805, section 3.2)."""

    facts: ClassVar[MethodFacts] = MethodFacts(
        kind="full",
        family="full",
        name=_("full"),
        summary=_("all weights train"),
        rate_multiple=1,
        paper="Devlin et al. 2018, arXiv 1810.04805",
        formula=_("all parameters"),
    )
    kind: Literal["full"] = "full"


class LeanFullSpec(EveryWeight):
    """Full fine-tuning in less memory than the 16 bytes a parameter of float32 weights, gradients and AdamW moments.

        bytes a parameter       weights  gradient  optimizer
        float32, AdamW                4         4          8
        bf16-stochastic               2         2          8
        bf16-kahan                    4         2          8      weight and its compensation
        adamw_bnb_8bit                                     2.03   8-bit moments (Dettmers et al. 2021, arXiv 2110.02861)
        adafactor                                         ~0      a row and a column of second moments (Shazeer & Stern
                                                                  2018, arXiv 1804.04235)

    Weights in bfloat16 would lose updates below half of their last digit: stochastic rounding keeps them on average
    (Zamirai et al. 2020, arXiv 2010.06192, section 3), Kahan summation keeps what was rounded off. The new head stays
    in float32. `step_in_backward` updates each weight as soon as its gradient is complete, and frees the gradient
    (Lv et al. 2023, arXiv 2306.09782): gradients are then never summed or clipped together.
    """

    facts: ClassVar[MethodFacts] = MethodFacts(
        kind="lean-full",
        family="full",
        name=_("lean full"),
        summary=_("all weights train, stored and updated in less memory"),
        rate_multiple=1,
        paper="Dettmers et al. 2021, arXiv 2110.02861; Zamirai et al. 2020, arXiv 2010.06192",
        formula=_("all parameters"),
    )
    needs: ClassVar[frozenset[Capability]] = frozenset({"adamw-8bit"})
    undistributed: ClassVar[Message | None] = _(
        "its optimizer rounds and packs whole tensors, of which each device has a part"
    )
    kind: Literal["lean-full"] = "lean-full"
    optim: Optim = "adamw_bnb_8bit"
    weight_storage: WeightStorage = "bf16-stochastic"
    step_in_backward: bool = False
    offload_activations: bool = False
    """CUDA: block inputs, which gradient checkpointing keeps, wait in the host's memory for the backward pass."""

    @property
    def label(self) -> str:
        """`full, 8-bit AdamW, bf16 stochastic`."""
        parts = [_OPTIMIZERS[self.optim]]
        if self.computes_in_bf16:
            parts.append(self.weight_storage.replace("-", " "))
        if self.step_in_backward:
            parts.append("step in backward")
        if self.offload_activations:
            parts.append("offloaded activations")
        return ", ".join(["full", *parts])

    @property
    def needed(self) -> frozenset[Capability]:
        """bitsandbytes quantizes the moments; activations leave a GPU."""
        gpu: frozenset[Capability] = frozenset({"gpu"}) if self.offload_activations else frozenset()
        return gpu | (self.needs if self.optim == "adamw_bnb_8bit" else frozenset())

    @property
    def computes_in_bf16(self) -> bool:
        """Weights in bfloat16 are multiplied in bfloat16."""
        return self.weight_storage != "float32"

    def clash(self, training: BaseModel) -> FieldError | None:
        """Float32 arithmetic on bfloat16 weights; clipping or accumulation where no two gradients exist at once."""
        settings: Any = training
        if self.computes_in_bf16 and settings.bf16 is False:
            what = _("Weights in bfloat16 cannot be multiplied in float32")
            return FieldError("training.bf16", what, _("Set it to true, or weight_storage to float32"))
        if self.step_in_backward and settings.gradient_accumulation_steps > 1:
            what = _("step_in_backward frees each gradient at once, so those of several batches cannot be summed")
            return FieldError("training.gradient_accumulation_steps", what, _("Set it to 1"))
        if self.step_in_backward and settings.max_grad_norm > 0:
            what = _("step_in_backward frees each gradient at once, so their common norm cannot be clipped")
            return FieldError("training.max_grad_norm", what, _("Set it to 0, or leave step_in_backward out"))
        if self.offload_activations and not settings.gradient_checkpointing:
            what = _("offload_activations moves what gradient checkpointing keeps to the host's memory")
            return FieldError(
                "training.gradient_checkpointing", what, _("Set it to true, or leave offload_activations out")
            )
        if self.offload_activations and settings.compile_blocks:
            return self.not_compiled(_("offload_activations was not tested with them"))
        if self.step_in_backward and settings.compile_blocks:
            return self.not_compiled(_("step_in_backward frees each gradient at once, a compiled block all of its own"))
        return super().clash(training)


_OPTIMIZERS: dict[Optim, str] = {"adamw_torch": "AdamW", "adamw_bnb_8bit": "8-bit AdamW", "adafactor": "Adafactor"}


class HeadOnlySpec(Selection):
    """Linear probing: only the new head trains, on a frozen base model (Alain & Bengio 2016, arXiv 1610.01644)."""

    facts: ClassVar[MethodFacts] = MethodFacts(
        kind="head-only",
        family="head",
        name=_("head only"),
        summary=_("only the new head trains, on a frozen base model"),
        rate_multiple=150,
        paper="Alain & Bengio 2016, arXiv 1610.01644",
        formula=_("0"),
        tasks=tasks_where(lambda task: task.adds_head),
    )
    unchanged: ClassVar[Unchanged | None] = "head"
    kind: Literal["head-only"] = "head-only"

    def selects(self, parameter: ParameterFacts, model: TaskModel) -> bool:
        return model.in_head(parameter.name)


class LastLayersSpec(Selection):
    """The last k transformer blocks, the layers after them (a final norm, a pooler) and the new head train; embeddings
    and lower blocks are frozen (Lee et al. 2019, arXiv 1911.03090)."""

    facts: ClassVar[MethodFacts] = MethodFacts(
        kind="last-layers",
        family="partial",
        name=_("last layers"),
        summary=_("the last blocks and the head train"),
        rate_multiple=1,
        paper="Lee et al. 2019, arXiv 1911.03090",
        formula=_("layers × parameters of a block, plus those after the last block"),
    )
    kind: Literal["last-layers"] = "last-layers"
    layers: int = Field(default=2, ge=1, le=1000)
    """Number of blocks, counted from the output; in an encoder-decoder, from the decoder's."""

    @property
    def label(self) -> str:
        """`last 2 layers`."""
        return f"last {self.layers} layers" if self.layers > 1 else "last layer"

    def selects(self, parameter: ParameterFacts, model: TaskModel) -> bool:
        """In one of the last blocks or after them; a weight tied to the embeddings belongs to the embeddings."""
        block = model.block_of(parameter.name)
        if block is not None:
            return block >= len(model.blocks) - self.layers
        return model.in_head(parameter.name) or model.follows_blocks(parameter.name)

    def problems(self, model: TaskModel) -> Iterator[FieldError]:
        """More blocks than the model has."""
        if self.layers > len(model.blocks):
            what = _(
                "%(architecture)s has %(blocks)s blocks, fewer than %(layers)s",
                architecture=model.architecture,
                blocks=len(model.blocks),
                layers=self.layers,
            )
            yield FieldError("layers", what, at_most(len(model.blocks)))
        yield from super().problems(model)


class BitFitSpec(Selection):
    """BitFit: the bias vectors and the new head train (Ben Zaken et al. 2021, arXiv 2106.10199)."""

    facts: ClassVar[MethodFacts] = MethodFacts(
        kind="bitfit",
        family="partial",
        name=_("BitFit"),
        summary=_("the bias vectors and the head train"),
        rate_multiple=10,
        paper="Ben Zaken et al. 2021, arXiv 2106.10199",
        formula=_("the sum of all bias vectors"),
    )
    unchanged: ClassVar[Unchanged | None] = "biases"
    kind: Literal["bitfit"] = "bitfit"

    def selects(self, parameter: ParameterFacts, model: TaskModel) -> bool:
        """Bias vectors, and the head."""
        return model.in_head(parameter.name) or parameter.name.endswith(".bias")

    def problems(self, model: TaskModel) -> Iterator[FieldError]:
        """A model without bias vectors, such as T5 and Llama."""
        if not model.has_bias:
            what = _("%(architecture)s has no bias vectors, which BitFit trains", architecture=model.architecture)
            yield FieldError("kind", what, _("Use LoRA"))
        yield from super().problems(model)
