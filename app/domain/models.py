"""Base models: where they come from, and what an inspection found in them."""

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.domain.errors import FieldError
from app.domain.methods import FullSpec, HeadOnlySpec, LinearFacts, LoraSpec, matching, short_names
from app.domain.names import Line, wrong

ModelSource = Literal["sample", "hub", "directory"]
ModelStatus = Literal["inspecting", "ready", "failed"]
SAMPLE_MODEL = "all-MiniLM-L6-v2"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)
"""`owner/name`, or a name alone: nothing that could lead out of a folder."""


class ModelFacts(BaseModel):
    """What an inspection on meta tensors found; no weights are loaded for it."""

    model_config = ConfigDict(frozen=True)

    architecture: str
    """`BertModel`, `T5Model`, …"""
    model_type: str
    parameters: int
    """Parameters of the base model without any head."""
    head_fixed_parameters: int
    """Parameters of a classification head that do not depend on the number of labels."""
    head_parameters_per_label: int
    """Parameters that each label adds to the head: a linear layer's width and its bias."""
    hidden_size: int
    layers: int
    max_positions: int | None
    linear_modules: list[LinearFacts]
    """Every linear layer below the head, in the order of the model."""
    default_target_modules: list[str]
    """PEFT's own choice for this architecture, for LoRA; empty if it has none."""
    revision: str = ""
    """The commit, or the hash of the files, that was inspected."""

    def head_parameters(self, labels: int) -> int:
        """Parameters of a classification head over `labels` classes."""
        return self.head_fixed_parameters + self.head_parameters_per_label * labels

    def targets(self, spec: LoraSpec) -> list[LinearFacts]:
        """The linear layers that a LoRA spec adapts."""
        if spec.target_modules == "all-linear":
            return list(self.linear_modules)
        return matching(spec.target_modules or self.default_target_modules, self.linear_modules)

    def trainable_parameters(self, spec: FullSpec | LoraSpec | HeadOnlySpec, labels: int) -> int:
        """Computed, for classification: LoRA adds r·(in + out) for each target (arXiv 2106.09685, section 4.1)."""
        head = self.head_parameters(labels)
        match spec:
            case FullSpec():
                return self.parameters + head
            case HeadOnlySpec():
                return head
            case LoraSpec():
                targets = self.targets(spec)
                low_rank = sum(spec.r * (m.in_features + m.out_features) for m in targets)
                magnitude = sum(m.out_features for m in targets) if spec.use_dora else 0
                return head + low_rank + magnitude

    def unfit(self, spec: FullSpec | LoraSpec | HeadOnlySpec) -> FieldError | None:
        """Why a method does not fit this model, or None. Names the real modules."""
        if not isinstance(spec, LoraSpec):
            return None
        return self._no_target(spec) or self._too_high_rank(spec)

    def _no_target(self, spec: LoraSpec) -> FieldError | None:
        real = ", ".join(short_names(self.linear_modules))
        if spec.target_modules is None and not self.default_target_modules:
            return FieldError(
                "target_modules",
                f"PEFT has no default target modules for {self.model_type}",
                f'choose from: {real}, or "all-linear"',
            )
        named = spec.target_modules if isinstance(spec.target_modules, list) else []
        missing = [t for t in named if not matching([t], self.linear_modules)]
        if missing:
            return FieldError(
                "target_modules",
                f"{self.architecture} has no linear module {', '.join(repr(m) for m in missing)}",
                f'choose from: {real}, or "all-linear"',
            )
        return None

    def _too_high_rank(self, spec: LoraSpec) -> FieldError | None:
        """B·A has at most the rank of the matrix beside it; a higher r costs memory and adds nothing."""
        thinnest = min(self.targets(spec), key=lambda m: min(m.in_features, m.out_features), default=None)
        if thinnest is None or spec.r <= (most := min(thinnest.in_features, thinnest.out_features)):
            return None
        shape = f"{thinnest.out_features} × {thinnest.in_features}"
        return FieldError("r", f"{thinnest.name} is {shape}, so a rank of {spec.r} adds nothing", f"at most {most}")


class ModelRegistration(BaseModel):
    """Ask for a base model to be inspected and made known under a name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=120, pattern=r"^[\w.\-/]+$")
    source: ModelSource = "hub"
    location: Line = Field(default="", max_length=500)
    """Hub id, or a directory under an allowed root; empty for the packaged sample."""
    revision: Line = Field(default="", max_length=120)

    @model_validator(mode="after")
    def _hub_id_is_no_path(self) -> "ModelRegistration":
        if self.source == "hub" and (not HUB_ID.fullmatch(self.location) or ".." in self.location):
            raise wrong("location", f"{self.location!r} is no id of a hub model", "such as google-t5/t5-small")
        return self
