"""What a worker computes for the Lab: requests, which a warm process answers once and stores, and their answers.

equality   LoRA written out beside PEFT's on one layer of a base model
matrices   W of a layer, ΔW of runs, and a random matrix: low-rank approximations, as numbers and as pictures
attention  what each token of a sentence attends to in every head, before and after fine-tuning
freezing   LoRA with its base frozen, and with its base left trainable by mistake
"""

import base64
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from app.domain.messages import Message, _
from app.domain.resources.computations import Computation

COMPUTATIONS_VERSION = 2
"""Raised when the answer to an unchanged request may differ."""
SIDE = 32
"""Rows and columns of a matrix that its picture shows."""
ROUNDING = 1e-6
"""Largest relative difference that counts as rounding, times the root of a layer's width. With MiniLM-L6 it was 1e-7 at
most, for r from 1 to 384 and alpha from 1 to 1,000,000."""
RANKS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""To choose from."""
ALPHAS = (*RANKS, 512, 1024)
"""Of these every user may have a check computed: otherwise each r and alpha is another computation."""
MOST_SIDE = 2048
"""Of a matrix to decompose: its decomposition takes about ten seconds."""
MOST_TOKENS, MOST_SENTENCE = 24, 200
"""Of a sentence whose attention is computed: tokens, and characters."""
SENTENCES = (
    "The bank raised its rates, and the river rose over its bank.",
    "The band did not win because it was too loud.",
    "She told her brother that his team had won the cup.",
)
"""Of these every user may have the attention computed."""
PACKED = 65535
"""Stands for a weight of 1."""
MatrixOf = Literal["weight", "full", "lora", "random"]
"""W of the base model, ΔW of full fine-tuning and of LoRA, and a random matrix of the same shape."""


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class OfModel(Computation):
    """A request of the Lab: what all have in common."""

    feature: ClassVar[str] = "lab"
    version: int = COMPUTATIONS_VERSION

    @property
    def members_only(self) -> Message | None:
        """Why a viewer (the role) cannot request it; None if a viewer can."""
        return None


class EqualityRequest(OfModel):
    """Compare a layer with LoRA written out and by PEFT: at the start, after the same training steps, and merged."""

    kind: Literal["equality"] = "equality"
    layer: str
    """Full dotted name in the model with a head."""
    r: int = Field(ge=1, le=4096)
    lora_alpha: int = Field(ge=1, le=1_000_000)

    @property
    def members_only(self) -> Message | None:
        """Any r and alpha but powers of two."""
        if self.r in RANKS and self.lora_alpha in ALPHAS:
            return None
        return _(
            "Your role may compute this only for powers of two: r up to %(rank)s, alpha up to %(alpha)s. Choose such "
            "values, or ask for the role of a member.",
            rank=max(RANKS),
            alpha=max(ALPHAS),
        )


class Equality(_Value):
    """The largest absolute differences between outputs, over the same random inputs in float32."""

    kind: Literal["equality"] = "equality"
    inputs: tuple[int, int, int]
    """Shape of the inputs: rows, tokens, width."""
    steps: int
    """Training steps, which both layers do with the same data."""
    start: float
    """LoRA before training and the base model."""
    trained: float
    """LoRA written out and PEFT's, both trained."""
    merged: float
    """W + s·B·A as one matrix, and beside each other."""
    learned: float
    """LoRA after training and the base model."""
    largest: float
    """The largest absolute output after training."""

    @property
    def tolerance(self) -> float:
        """Differences up to this one are rounding: it grows with the outputs and with the root of the width."""
        return float(ROUNDING * self.inputs[-1] ** 0.5 * self.largest)


class _OfRuns(OfModel):
    full_file: str = ""
    """Weights after full fine-tuning, in the files store; empty without such a run."""
    lora_file: str = ""
    """An adapter of LoRA; empty without one, or if it has none for the layer."""
    lora_scale: float = 1.0
    """By which its B·A is multiplied."""

    @property
    def files(self) -> dict[str, str]:
        """The files of the runs."""
        return {field: name for field in ("full_file", "lora_file") if (name := getattr(self, field))}


class MatricesRequest(_OfRuns):
    """Decompose W of a layer, ΔW of runs, and a random matrix of the same shape."""

    kind: Literal["matrices"] = "matrices"
    layer: str
    """Full dotted name in the model with a head."""


class Spectral(_Value):
    """Singular values of a matrix M, and its approximations of low rank."""

    norm: float
    """‖M‖_F."""
    effective_rank: float
    rank_90: int
    """The smallest rank that keeps 90 % of the energy."""
    energy: list[float]
    """Kept at each of the ranks, from 0 to 1."""
    value_ranks: list[int]
    """Places of the singular values in `values`, from 1."""
    values: list[float]
    """Divided by the first."""
    pictures: list[str]
    """At each of the ranks: the first `SIDE` rows and columns as signed bytes in base64."""


class Matrices(_Value):
    """The decompositions by what they are of."""

    kind: Literal["matrices"] = "matrices"
    rows: int
    columns: int
    ranks: list[int]
    of: dict[MatrixOf, Spectral]


def stops(side: int) -> list[int]:
    """Ranks of a slider: powers of two, and the smaller side of the matrix."""
    return sorted({2**power for power in range(side.bit_length()) if 2**power <= side} | {side})


class AttentionRequest(_OfRuns):
    """Every attention head on a sentence, with the base model's weights and with those of at most one run."""

    kind: Literal["attention"] = "attention"
    sentence: str = Field(min_length=1, max_length=MOST_SENTENCE)

    @property
    def members_only(self) -> Message | None:
        """Any sentence but those that the page offers."""
        if self.sentence in SENTENCES:
            return None
        return _("Your role may compute this only for sentences that the page offers. Ask for the role of a member.")


class Attention(_Value):
    """Where each token of a sentence looks, by head: p [n, n], p[i, j] is the weight that token i gives to token j, and
    each row sums to 1."""

    kind: Literal["attention"] = "attention"
    tokens: list[str]
    """As texts, with those that the tokenizer adds."""
    cut: bool
    """The sentence has more tokens than `MOST_TOKENS`, and the others are left out."""
    before: list[list[str]]
    """p of each head of each layer: n² numbers from 0 to 65,535, two bytes each, little-endian, in base64."""
    after: list[list[str]] = []
    """The same with the run's weights; empty without a run."""

    def weights(self, layer: int, head: int, *, after: bool = False) -> NDArray[np.float64]:
        """p [n, n] of a head; both are counted from 0."""
        packed = base64.b64decode((self.after if after else self.before)[layer][head])
        side = len(self.tokens)
        return np.frombuffer(packed, "<u2").reshape(side, side) / PACKED


def packed(weights: NDArray[np.float32]) -> str:
    """p of a head as `Attention` has it."""
    return base64.b64encode(np.round(weights.astype(np.float64) * PACKED).astype("<u2").tobytes()).decode()


class FreezingRequest(OfModel):
    """Train LoRA on a classifier's rows for some steps, with the base frozen and with the base left trainable."""

    kind: Literal["freezing"] = "freezing"
    rows_file: str
    """Of the dataset, in the files store."""
    labels: int = Field(ge=2)

    @property
    def files(self) -> dict[str, str]:
        return {"rows_file": self.rows_file}


class FreezingSide(_Value):
    """One of the two trainings."""

    expected: int
    """Parameters that the method trains."""
    trainable: int
    """Parameters that did train."""
    caught: str
    """What the freeze audit says before the first step; empty if it passes."""
    weight_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    """Of AdamW's state."""
    changed: int
    """Tensors of the base model that training changed, of `base_tensors`."""
    base_tensors: int
    other_answers: int
    """Rows that are answered otherwise once the adapter lies on the base model's own weights."""


class Freezing(_Value):
    """What leaving the base trainable does."""

    kind: Literal["freezing"] = "freezing"
    steps: int
    rows: int
    """Of the validation split, whose answers are compared."""
    frozen: FreezingSide
    unfrozen: FreezingSide


LabRequest = Annotated[
    EqualityRequest | MatricesRequest | AttentionRequest | FreezingRequest, Field(discriminator="kind")
]
LabAnswer = Annotated[Equality | Matrices | Attention | Freezing, Field(discriminator="kind")]
REQUESTS: TypeAdapter[LabRequest] = TypeAdapter(LabRequest)
ANSWERS: TypeAdapter[LabAnswer] = TypeAdapter(LabAnswer)
