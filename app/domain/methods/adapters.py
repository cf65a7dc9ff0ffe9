"""Bottleneck adapters between the frozen layers of a block (Houlsby et al. 2019, arXiv 1902.00751).

    y = x + W_up·f(W_down·x + b_down) + b_up        W_down [m, d],  b_down [m],  W_up [d, m],  b_up [d]

x [d] is the output of a projection, d the width of the model, m `bottleneck_size`, f a non-linearity. One adapter has
2·m·d + d + m parameters (section 2.1 there). W_up and both biases are initialized to zero, so training starts at the
base model.

    houlsby     after the attention's output projection and after the feed-forward's
    pfeiffer    after the feed-forward's only (Pfeiffer et al. 2020, arXiv 2005.00247): half as many

Both are applied before the residual addition, directly after the projection. One detail of each paper is left out, so
that the base model stays unchanged: Houlsby also trains the layer norms, and Pfeiffer applies the block's layer norm to
the adapter's output.
"""

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from app.domain.errors import FieldError
from app.domain.messages import Message, _
from app.domain.methods.base import Mechanism, Method, MethodFacts, Unchanged
from app.domain.models.architecture import LinearFacts, TaskModel, Tensor, short_names

Place = Literal["attention", "feed-forward"]

PROJECTIONS = (
    *("output.dense", "attention.dense", "self_attention.dense", "self_attn.dense"),  # BERT; ALBERT, NeoX; Bloom; Phi
    *("out_lin", "lin2", "ffn_output", "dense_4h_to_h"),  # DistilBERT, XLM; ALBERT; NeoX, Bloom, Falcon
    *("c_proj", "out_proj", "fc_out", "fc2"),  # GPT-2; OPT, BART, GPT-Neo; GPT-J; OPT, BART, Phi
    *("o_proj", "down_proj", "o", "wo", "Wo"),  # Llama, Mistral, Qwen, Gemma; T5, MPNet; ModernBERT
)
"""Ends of the names of linear layers whose output is added to the residual stream."""


def place(name: str) -> Place | None:
    """Which projection a linear layer is, by its name within the block (`attention.output.dense`), or None.

    One expert of several is none: its output is not the feed-forward's.
    """
    if not any(name == end or name.endswith(f".{end}") for end in PROJECTIONS) or "expert" in name:
        return None
    above = name.rpartition(".")[0].lower()
    return "attention" if "attention" in above or "attn" in above else "feed-forward"


class BottleneckAdapterSpec(Method):
    """Bottleneck adapters: x + W_up·f(W_down·x + b_down) + b_up after the output projections of every block."""

    facts: ClassVar[MethodFacts] = MethodFacts(
        kind="bottleneck-adapter",
        family="adapter",
        name=_("adapter layers"),
        summary=_("a bottleneck MLP after the sublayers of each block trains"),
        rate_multiple=5,
        paper="Houlsby et al. 2019, arXiv 1902.00751; Pfeiffer et al. 2020, arXiv 2005.00247",
        formula=_(
            "Σ 2·m·d + d + m over the adapters; one a block (pfeiffer), or one more for each attention (houlsby)"
        ),
    )
    mechanism: ClassVar[Mechanism] = "bottleneck"
    unchanged: ClassVar[Unchanged | None] = "networks"
    unmergeable: ClassVar[Message | None] = _("each adapter has a non-linearity, which no weight matrix replaces")
    kind: Literal["bottleneck-adapter"] = "bottleneck-adapter"
    placement: Literal["houlsby", "pfeiffer"] = "houlsby"
    bottleneck_size: int = Field(default=64, ge=1, le=65536)
    """m: the width between W_down and W_up."""
    non_linearity: Literal["relu", "gelu", "silu"] = "gelu"
    """The activation f."""
    adapter_dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Dropout after f."""

    @property
    def label(self) -> str:
        """`adapters m=64 (houlsby)`."""
        return f"adapters m={self.bottleneck_size} ({self.placement})"

    def places(self, model: TaskModel) -> list[tuple[LinearFacts, Place]]:
        """The linear layers that an adapter follows, in the order of the model."""
        return [(m, at) for m, at in _projections(model) if at == "feed-forward" or self.placement == "houlsby"]

    def trains(self, model: TaskModel) -> list[Tensor]:
        """Both matrices and both biases of every adapter, and the head."""
        m, tensors = self.bottleneck_size, []
        for layer, at in self.places(model):
            adapter, d, group = f"{layer.name}.adapter", layer.out_features, f"adapters after {at}"
            tensors += [
                Tensor(f"{adapter}.down.weight", (m, d), group),
                Tensor(f"{adapter}.down.bias", (m,), group),
                Tensor(f"{adapter}.up.weight", (d, m), group),
                Tensor(f"{adapter}.up.bias", (d,), group),
            ]
        return tensors + self.own_head(model)

    def touches(self, model: TaskModel) -> list[str]:
        """The layers that an adapter follows, and the head."""
        return [layer.name for layer, _ in self.places(model)] + model.head

    def problems(self, model: TaskModel) -> Iterator[FieldError]:
        """A block without the output projections that the placement needs."""
        yield from super().problems(model)
        if not model.blocks:
            what = _("%(architecture)s has no transformer blocks to add adapters to", architecture=model.architecture)
            yield FieldError("kind", what, _("Use LoRA"))
        known = {(model.block_of(m.name), at) for m, at in _projections(model)}
        for number, block in enumerate(model.blocks):
            if (number, "feed-forward") not in known:
                inside = [m for m in model.linear if model.block_of(m.name) == number]
                what = _(
                    "The output projection of the feed-forward in %(block)s of %(architecture)s is unknown (linear "
                    "layers: %(layers)s)",
                    block=block,
                    architecture=model.architecture,
                    layers=", ".join(short_names(inside)) or "none",
                )
                yield FieldError("kind", what, _("Use LoRA, which works on any linear layer"))
            if self.placement == "houlsby" and (number, "attention") not in known:
                what = _(
                    "The output projection of the attention in %(block)s of %(architecture)s is unknown",
                    block=block,
                    architecture=model.architecture,
                )
                yield FieldError("placement", what, _('Use "pfeiffer", which needs only the feed-forward'))

    def advice(self, model: TaskModel) -> list[FieldError]:
        """A bottleneck as wide as the model."""
        narrow = min((layer.out_features for layer, _ in self.places(model)), default=0)
        if not narrow or self.bottleneck_size < narrow:
            return []
        what = _(
            "A bottleneck of %(size)s is not narrower than the model, whose width is %(width)s",
            size=self.bottleneck_size,
            width=narrow,
        )
        remedy = _("The paper uses 8 to 256 for a width of 1,024: try %(size)s", size=max(1, narrow // 16))
        return [FieldError("bottleneck_size", what, remedy)]


def _projections(model: TaskModel) -> list[tuple[LinearFacts, Place]]:
    projections = []
    for m in model.linear:
        number = model.block_of(m.name)
        if number is not None and (at := place(m.name.removeprefix(f"{model.blocks[number]}."))):
            projections.append((m, at))
    return projections
