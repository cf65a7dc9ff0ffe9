"""Virtual tokens before the input of a frozen model, by PEFT.

    prompt     [p₁ … pₙ, x₁ … x_L]                      n vectors p of the width of an embedding
    p-tuning   [f(p₁) … f(pₙ), x₁ … x_L]                f: an MLP or LSTM, trained and not saved
    prefix     attention over [k₁ … kₙ, K], [v₁ … vₙ, V]   a key and a value for each virtual token and layer

Virtual tokens take positions of the model's context. In an encoder-decoder a prompt precedes the encoder's input, and a
prefix the decoder's.
"""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from app.domain.errors import FieldError
from app.domain.messages import Message, _
from app.domain.methods.base import TEXT_TASKS, MethodFacts, PeftMethod, Unchanged
from app.domain.models.architecture import TaskModel, Tensor
from app.domain.tasks import TASKS, tasks_where

_LAST = "score"
"""transformers' name for the head of classifiers that read a text's last token."""


class VirtualTokens(PeftMethod):
    """What these methods have in common."""

    wrapped: ClassVar[str] = "base_model"
    main_setting: ClassVar[tuple[str, str] | None] = ("n", "num_virtual_tokens")
    unchanged: ClassVar[Unchanged | None] = "tokens"
    unmergeable: ClassVar[Message | None] = _("virtual tokens are inputs of the model, not a change of its weights")
    without: ClassVar[Mapping[str, Message]] = {
        "packing": _("virtual tokens precede a row, and packed rows would share one set"),
        "padding_free": _("virtual tokens precede a row, where a padding-free batch has the row before it"),
    }
    num_virtual_tokens: int = Field(default=20, ge=1, le=4096)
    """n."""

    @property
    def virtual_tokens(self) -> int:
        """n."""
        return self.num_virtual_tokens

    def touches(self, model: TaskModel) -> list[str]:
        """Only the head."""
        return model.head

    def peft_options(self, model: TaskModel) -> dict[str, Any]:
        """With explicit sizes, which PEFT would guess from the config."""
        return self.model_dump(exclude={"kind"}) | {
            "token_dim": width(model),
            "num_transformer_submodules": 1,
            "num_attention_heads": model.attention_heads,
            "num_layers": model.layers,
        }


def width(model: TaskModel) -> int:
    """Width of a token's embedding, which comes first in a model; ALBERT's is narrower than its layers."""
    return next(p.shape[1] for p in model.parameters if len(p.shape) == 2)


class BeforeText(VirtualTokens):
    """Virtual tokens as input embeddings: the model gets embeddings instead of token ids."""

    def problems(self, model: TaskModel) -> Iterator[FieldError]:
        """Classifiers that find the last token by its id."""
        yield from super().problems(model)
        if TASKS[model.task].unit == "item" and (model.encoder_decoder or model.head == [_LAST]):
            what = _(
                "%(architecture)s finds the token that it classifies by its id, but virtual tokens have none",
                architecture=model.architecture,
            )
            yield FieldError("kind", what, _("Use LoRA or (IA)³"))


class PromptSpec(BeforeText):
    """Prompt tuning: trained embeddings precede those of the input (Lester et al. 2021, arXiv 2104.08691)."""

    facts: ClassVar[MethodFacts] = MethodFacts(
        kind="prompt",
        family="prompt",
        name=_("prompt tuning"),
        summary=_("trained embeddings precede the input"),
        rate_multiple=150,
        paper="Lester et al. 2021, arXiv 2104.08691",
        formula=_("n·d"),
        tasks=TEXT_TASKS,
    )
    peft_type: ClassVar[str] = "PROMPT_TUNING"
    kind: Literal["prompt"] = "prompt"
    prompt_tuning_init: Literal["SAMPLE_VOCAB", "RANDOM"] = "SAMPLE_VOCAB"
    """Start from the embeddings of random words, which the paper found better than random vectors (section 3.2)."""

    def trains(self, model: TaskModel) -> list[Tensor]:
        """The vectors, and the head's copy."""
        size = (self.num_virtual_tokens, width(model))
        return [Tensor("prompt_encoder.default.embedding.weight", size, "prompt"), *self.head_copy(model)]


class PTuningSpec(BeforeText):
    """P-tuning: an MLP or LSTM produces the embeddings that precede the input (Liu et al. 2021, arXiv 2103.10385).

    MLP: three layers, d → h → h → d. LSTM, as in the paper: `encoder_num_layers` bidirectional layers of width h, then
    two layers 2h → 2h → d.
    """

    facts: ClassVar[MethodFacts] = MethodFacts(
        kind="p-tuning",
        family="prompt",
        name=_("p-tuning"),
        summary=_("an MLP or LSTM is trained to produce embeddings that precede the input"),
        rate_multiple=5,
        paper="Liu et al. 2021, arXiv 2103.10385",
        formula=_("n·d + the encoder; only n·d are saved"),
        tasks=TEXT_TASKS,
    )
    peft_type: ClassVar[str] = "P_TUNING"
    kind: Literal["p-tuning"] = "p-tuning"
    encoder_reparameterization_type: Literal["MLP", "LSTM"] = "MLP"
    encoder_hidden_size: int | None = Field(default=None, ge=1, le=65536)
    """h; None is the width of an embedding."""
    encoder_num_layers: int = Field(default=2, ge=1, le=16)
    """Layers of the LSTM."""
    encoder_dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Dropout between the layers of the LSTM."""

    def trains(self, model: TaskModel) -> list[Tensor]:
        """The encoder's input and weights, and the head's copy."""
        d = width(model)
        h = self.encoder_hidden_size or d
        if self.encoder_reparameterization_type == "MLP":
            sizes = _lines("mlp_head.0", h, d) | _lines("mlp_head.2", h, h) | _lines("mlp_head.4", d, h)
        else:
            sizes = _lstm(self.encoder_num_layers, h, d)
            sizes |= _lines("mlp_head.0", 2 * h, 2 * h) | _lines("mlp_head.2", d, 2 * h)
        sizes["embedding.weight"] = (self.num_virtual_tokens, d)
        return [*_encoder(sizes), *self.head_copy(model)]

    def problems(self, model: TaskModel) -> Iterator[FieldError]:
        """A head that PEFT would take for the prompt encoder by its name (ModernBERT's)."""
        yield from super().problems(model)
        for part in model.head:
            if "mlp_head".endswith(part):
                what = _(
                    "%(architecture)s names a part of its head %(part)r, which PEFT takes for the network of p-tuning",
                    architecture=model.architecture,
                    part=part,
                )
                yield FieldError("kind", what, _("Use prompt tuning"))

    def peft_options(self, model: TaskModel) -> dict[str, Any]:
        """With the number of layers for an LSTM only."""
        options = super().peft_options(model)
        if self.encoder_reparameterization_type == "MLP":
            del options["encoder_num_layers"]
        return options


class PrefixSpec(VirtualTokens):
    """Prefix tuning: trained keys and values precede those of the input in every attention layer (Li & Liang 2021,
    arXiv 2101.00190).

    They train directly, or with `prefix_projection` through an MLP d' → h → 2·layers·d', which the paper found more
    stable (section 4.3); d' is the width of a layer's keys. In an encoder-decoder they precede the decoder's input.
    """

    facts: ClassVar[MethodFacts] = MethodFacts(
        kind="prefix",
        family="prompt",
        name=_("prefix tuning"),
        summary=_("trained keys and values precede the input in every attention layer"),
        rate_multiple=50,
        paper="Li & Liang 2021, arXiv 2101.00190",
        formula=_(
            "n·2·layers·d', where d' is the width of a layer's keys; with prefix_projection, the network's instead"
        ),
        tasks=tasks_where(lambda task: task.output == "text"),
    )
    peft_type: ClassVar[str] = "PREFIX_TUNING"
    without: ClassVar[Mapping[str, Message]] = {
        **VirtualTokens.without,
        "gradient_checkpointing": _("recomputed layers do not get the keys and values of the prefix"),
    }
    kind: Literal["prefix"] = "prefix"
    prefix_projection: bool = False
    encoder_hidden_size: int | None = Field(default=None, ge=1, le=65536)
    """h; None is the width of a layer's keys."""

    def trains(self, model: TaskModel) -> list[Tensor]:
        """The keys and values, or the MLP that produces them."""
        d, every = model.key_value_width, 2 * model.layers * model.key_value_width
        if not self.prefix_projection:
            return _encoder({"embedding.weight": (self.num_virtual_tokens, every)})
        h = self.encoder_hidden_size or d
        sizes = {"embedding.weight": (self.num_virtual_tokens, d)}
        return _encoder(sizes | _lines("transform.0", h, d) | _lines("transform.2", every, h))

    def peft_options(self, model: TaskModel) -> dict[str, Any]:
        """PEFT wants two submodules for an encoder-decoder, and the number of key-value heads."""
        return super().peft_options(model) | {
            "token_dim": model.key_value_width,
            "num_attention_heads": model.key_value_heads,
            "num_transformer_submodules": 2 if model.encoder_decoder else 1,
        }


def _encoder(sizes: Mapping[str, tuple[int, ...]]) -> list[Tensor]:
    """Tensors of PEFT's module for virtual tokens."""
    return [Tensor(f"prompt_encoder.default.{name}", size, "virtual tokens") for name, size in sizes.items()]


def _lines(name: str, outputs: int, inputs: int) -> dict[str, tuple[int, ...]]:
    """A linear layer with a bias."""
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _lstm(layers: int, h: int, d: int) -> dict[str, tuple[int, ...]]:
    """A bidirectional LSTM [d → 2h], whose four gates of a direction are one matrix."""
    sizes: dict[str, tuple[int, ...]] = {}
    for number in range(layers):
        for direction in ("", "_reverse"):
            end = f"l{number}{direction}"
            sizes[f"lstm_head.weight_ih_{end}"] = (4 * h, 2 * h if number else d)
            sizes[f"lstm_head.weight_hh_{end}"] = (4 * h, h)
            sizes[f"lstm_head.bias_ih_{end}"] = sizes[f"lstm_head.bias_hh_{end}"] = (4 * h,)
    return sizes
