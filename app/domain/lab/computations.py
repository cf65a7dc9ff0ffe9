"""What a worker computes for the Lab: requests, which a warm process answers once and stores, and their answers.

equality   LoRA written out beside PEFT's on one layer of a base model
matrices   W of a layer, ΔW of runs, and a random matrix: low-rank approximations, as numbers and as pictures
attention  what each token of a sentence attends to in one head, before and after fine-tuning
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from app.domain.resources.estimate import key_of

COMPUTATIONS_VERSION = 1
"""Raised when the answer to an unchanged request may differ."""


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _OfModel(_Value):
    version: int = COMPUTATIONS_VERSION
    location: str
    """Directory or hub id of the base model."""
    revision: str = ""
    fingerprint: str = ""
    """The commit, or the hash of the files, at that location."""

    @property
    def key(self) -> str:
        """SHA-256 over all of it."""
        return key_of(self)

    @property
    def files(self) -> dict[str, str]:
        """What it reads beside the base model: names in the files store, by field."""
        return {}


class EqualityRequest(_OfModel):
    """Compare a layer with LoRA written out and by PEFT: at the start, after the same training steps, and merged."""

    kind: Literal["equality"] = "equality"
    layer: str
    """Full dotted name in the model with a head."""
    r: int = Field(ge=1, le=4096)
    lora_alpha: int = Field(ge=1, le=1_000_000)


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


LabRequest = EqualityRequest
LabAnswer = Equality
REQUESTS: TypeAdapter[LabRequest] = TypeAdapter(LabRequest)
ANSWERS: TypeAdapter[LabAnswer] = TypeAdapter(LabAnswer)
