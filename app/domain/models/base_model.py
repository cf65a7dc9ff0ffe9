"""Base models: their sources, and the results of their inspection."""

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.domain.data.turns import ChatPart
from app.domain.errors import FieldError
from app.domain.messages import _
from app.domain.methods import AnyMethod
from app.domain.models.architecture import TaskModel
from app.domain.tasks import Task
from app.domain.validation import Line, invalid_field

ModelSource = Literal["sample", "hub", "directory"]
ModelStatus = Literal["inspecting", "ready", "failed"]
SAMPLE_MODEL = "all-MiniLM-L6-v2"
SAMPLE_LANGUAGE_MODEL = "SmolLM2-135M-Instruct"
SAMPLE_IMAGE_MODEL = "digits-vit"
SAMPLE_MODELS = {"": SAMPLE_MODEL, "smollm2": SAMPLE_LANGUAGE_MODEL, "digits": SAMPLE_IMAGE_MODEL}
"""Default names of the packaged models, by the location that stands for them."""
SAMPLE_NOTES = {
    "smollm2": _("The weights were dequantized from 4 bits (GGUF Q4_1) to bfloat16."),
    "digits": _("A small vision transformer that the worker trains on the digits 0 to 4; it is of no other use."),
}
FACTS_VERSION = 7
"""Raised when an inspection reads more; older models are then inspected again."""
LONGEST_TEMPLATE = 100_000
"""Characters of a chat template that are stored for display."""
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)
"""`owner/name`, or a name alone; it cannot lead out of a folder."""


class ModelFile(BaseModel):
    """A file that a run needs."""

    model_config = ConfigDict(frozen=True)

    name: str
    bytes: int

    @property
    def holds_weights(self) -> bool:
        """Whether it holds weights, not a configuration or a tokenizer."""
        return self.name.endswith(".safetensors")


class TokenizerFacts(BaseModel):
    model_config = ConfigDict(frozen=True)

    kind: str
    """Its class: `GPT2Tokenizer`."""
    vocabulary: int
    """Number of tokens, with added ones."""
    special: dict[str, str] = Field(default_factory=dict)
    """Special tokens by role: `pad_token` → `[PAD]`."""
    template: str = ""
    """The chat template, in Jinja; cut at `LONGEST_TEMPLATE`."""


class ModelFacts(BaseModel):
    """What an inspection on meta tensors found; no weights are loaded for it."""

    model_config = ConfigDict(frozen=True)

    version: int = 0
    """`FACTS_VERSION` of the inspection. Fields that it did not read have their defaults."""

    architecture: str
    """Class of the base model without any head: `BertModel`, `T5Model`, …"""
    model_type: str
    parameters: int
    """Parameters of the base model without any head."""
    hidden_size: int
    layers: int
    max_positions: int | None
    """Maximum number of tokens, by its configuration and its tokenizer; None without a limit."""
    tasks: dict[Task, TaskModel]
    """The model with the head of each task that it supports."""
    unable: dict[Task, str] = Field(default_factory=dict)
    """Why it does not support the other tasks: a sentence for each."""
    chat_template: bool = False
    """Its tokenizer has a chat template for `messages`."""
    chat_parts: list[ChatPart] | None = None
    """Parts of conversations that this template renders; None where the inspection did not try it."""
    revision: str = ""
    """The commit, or the hash of the files, that was inspected."""
    dtype: str = ""
    """Type of the stored weights by the configuration: `float32`, `bfloat16`; empty if it has none."""
    files: list[ModelFile] = Field(default_factory=list)
    """Files that a run needs: weights, configuration, tokenizer."""
    restricted: bool = False
    """The hub refused it without a user's token, so each user needs a token with access."""
    tokenizer: TokenizerFacts | None = None
    """None if it has none, or an unreadable one."""

    @property
    def weights_bytes(self) -> int:
        """Size of the weights' files; 0 if unknown."""
        return sum(file.bytes for file in self.files if file.holds_weights)

    @property
    def stale(self) -> bool:
        """Whether an inspection would read more today."""
        return self.version < FACTS_VERSION

    def task_model(self, task: Task, labels: int) -> TaskModel:
        """The model with the head of a task for a number of labels. Raises KeyError for an unsupported task."""
        return self.tasks[task].with_labels(labels)

    def width(self, task: Task) -> int | None:
        """Width of a token's vector; None for a task that it does not support."""
        return self.tasks[task].hidden_size if task in self.tasks else None

    def trainable_parameters(self, spec: AnyMethod, task: Task, labels: int) -> int | None:
        """Number of trainable parameters; None if the method or the task is incompatible."""
        if task not in self.tasks or self.incompatibility(spec, task):
            return None
        return spec.trainable(self.task_model(task, labels))

    def incompatibility(self, spec: AnyMethod, task: Task) -> FieldError | None:
        """Why a method is incompatible with this model for a task, or None. Names the real modules."""
        if task not in self.tasks:
            return None  # the task itself has an error
        return spec.incompatibility(self.tasks[task])


class ModelRegistration(BaseModel):
    """A base model to inspect and register under a name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=120, pattern=r"^[\w.\-/]+$")
    source: ModelSource = "hub"
    location: Line = Field(default="", max_length=500)
    """Hub id, or a directory under an allowed root; of a packaged sample a key of `SAMPLE_MODELS`."""
    revision: Line = Field(default="", max_length=120)

    @model_validator(mode="after")
    def _location_fits_its_source(self) -> "ModelRegistration":
        if self.source == "sample" and self.location not in SAMPLE_MODELS:
            raise invalid_field(
                "location",
                _("%(location)r is not a packaged model", location=self.location),
                _(
                    "Use smollm2 for %(language)s, digits for %(images)s, or leave it empty for %(encoder)s",
                    language=SAMPLE_LANGUAGE_MODEL,
                    images=SAMPLE_IMAGE_MODEL,
                    encoder=SAMPLE_MODEL,
                ),
            )
        if self.source == "hub" and (not HUB_ID.fullmatch(self.location) or ".." in self.location):
            raise invalid_field(
                "location",
                _("%(location)r is not the id of a model on the Hugging Face hub", location=self.location),
                _("Use an id such as google-t5/t5-small"),
            )
        return self
