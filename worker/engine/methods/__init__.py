"""The methods, one file each. To add one: its spec in `app.domain.methods`, a file here, and a line in the table."""

from pathlib import Path
from typing import Any, Protocol

from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from app.domain.runs import RunSpec
from worker.engine.methods import full, head, lora


class Method(Protocol):
    """What a file in this package holds."""

    def expected_trainable(self, model: PreTrainedModel, spec: Any) -> frozenset[str]:
        """Names that the trainable parameters will have once `spec` is applied to the untouched `model`.

        Written from the method's definition, not from what `apply` did: the audit holds one against the other.
        Raises `RunFailed(bad_configuration)` if the method does not fit the model.
        """

    def apply(self, model: PreTrainedModel, spec: Any) -> nn.Module:
        """The model that trains, with `requires_grad` set; the forward pass is still the base model's."""

    def group(self, name: str) -> str:
        """The readable group that a trainable parameter belongs to, for counts and for the audit."""

    def save(self, model: Any, tokenizer: PreTrainedTokenizerBase, run: RunSpec, directory: Path) -> Path:
        """Write what one keeps, into a folder of `directory` called `adapter` or `model`; returns that folder."""


METHODS: dict[str, Method] = {
    "full": full,
    "lora": lora,
    "head-only": head,
}
"""Keyed by `kind`, like `app.domain.methods.METHODS`."""
