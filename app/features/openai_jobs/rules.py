"""Fine-tuning jobs in OpenAI's form, and the run that each stands for.

Source: https://platform.openai.com/docs/api-reference/fine-tuning
"""

import re
from dataclasses import replace
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from app.domain.data.guesses.mapping import ColumnMapping
from app.domain.data.uploads import SourceScan
from app.domain.errors import Invalid
from app.domain.messages import _
from app.domain.models.base_model import ModelFacts
from app.domain.runs.listing.annotations import Tag
from app.domain.runs.spec import RunSpec
from app.domain.tasks import TASKS, Task
from app.domain.validation import Name, field_error, invalid_field

MAX_LENGTH: Final = 1024
"""Tokens of a conversation that are read, unless `metadata` says otherwise or the base model has fewer positions."""
EPOCHS, BATCH_SIZE = 3, 8
"""What `auto` means."""
NEW_TOKENS = 64
"""Of an answer to a test row, unless the base model has few positions."""
METHOD, LENGTH = "vezna_method", "vezna_max_length"
"""Keys of `metadata` that choose what OpenAI's form has no field for."""
PARAMS = {
    "base_model": "model",
    "dataset": "training_file",
    "method": f"metadata.{METHOD}",
    "training.max_length": f"metadata.{LENGTH}",
}
"""Fields of a run, and those of a job that decide them."""
Auto = Literal["auto"]
MetadataKey = Annotated[str, Field(max_length=64)]
MetadataValue = Annotated[str, Field(max_length=512)]


class Hyperparameters(BaseModel):
    """Of supervised fine-tuning; `auto` leaves the choice to Vezna."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_epochs: Auto | Annotated[int, Field(ge=1, le=50)] = "auto"
    """`auto`: 3."""
    batch_size: Auto | Annotated[int, Field(ge=1, le=256)] = "auto"
    """`auto`: 8."""
    learning_rate_multiplier: Auto | Annotated[float, Field(gt=0, le=100)] = "auto"
    """Of the default learning rate of the method for the base model. `auto`: 1."""


class PreferenceHyperparameters(Hyperparameters):
    """Of preference tuning with DPO."""

    beta: Auto | Annotated[float, Field(gt=0, le=10)] = "auto"
    """How much a reward counts. `auto`: 0.1."""


class Supervised(BaseModel):
    """`method.supervised`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hyperparameters: Hyperparameters = Hyperparameters()


class Dpo(BaseModel):
    """`method.dpo`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hyperparameters: PreferenceHyperparameters = PreferenceHyperparameters()


class JobMethod(BaseModel):
    """`method`: supervised, or dpo, each with its own hyperparameters."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["supervised", "dpo"]
    supervised: Supervised | None = None
    dpo: Dpo | None = None

    @model_validator(mode="before")
    @classmethod
    def _known(cls, values: Any) -> Any:
        kind = values.get("type") if isinstance(values, dict) else None
        if isinstance(kind, str) and kind not in ("supervised", "dpo"):
            raise invalid_field(
                "type",
                _("Vezna has no fine-tuning of type %(kind)r in this form of its API", kind=kind[:40]),
                _("Use the type supervised or dpo; /api/v1 has every task"),
            )
        return values

    @model_validator(mode="after")
    def _of_its_type(self) -> "JobMethod":
        other = "dpo" if self.type == "supervised" else "supervised"
        if getattr(self, other) is not None:
            raise invalid_field(
                other,
                _("The method is of type %(kind)s, which has no field %(other)s", kind=self.type, other=other),
                _("Leave it out, or change the type"),
            )
        return self

    @property
    def hyperparameters(self) -> Hyperparameters:
        """Those of its type."""
        if self.type == "dpo":
            return (self.dpo or Dpo()).hyperparameters
        return (self.supervised or Supervised()).hyperparameters


def _nothing(value: list[Any] | None) -> None:
    if value:
        raise invalid_field(
            "",
            _("Vezna writes to experiment trackers by a setting of the installation, not by job"),
            _("Leave it out; see docs/trackers.md"),
        )


class JobRequest(BaseModel):
    """A job to create."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        json_schema_extra={
            "example": {
                "model": "SmolLM2-135M-Instruct",
                "training_file": "file-12",
                "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}},
                "seed": 0,
                "suffix": "support",
                "metadata": {"vezna_method": "full"},
            }
        },
    )

    model: Name = Field(max_length=200)
    """Name of a registered base model."""
    training_file: str = Field(max_length=40)
    """Id of an uploaded file: a JSONL file whose lines have `messages`, or `prompt` and `completion`; with the method
    dpo `input`, `preferred_output` and `non_preferred_output`, or the columns of another preference dataset."""
    validation_file: str | None = Field(default=None, max_length=40)
    """Id of another one; without it, Vezna splits the training file."""
    method: JobMethod | None = None
    hyperparameters: Hyperparameters | None = None
    """Of supervised fine-tuning, in their place before `method` existed; not both."""
    seed: int | None = Field(default=None, ge=0, lt=2**31)
    """Null: 0."""
    suffix: Tag | None = Field(default=None, max_length=40)
    """Becomes a tag of the run."""
    metadata: dict[MetadataKey, MetadataValue] | None = Field(default=None, max_length=16)
    """`vezna_method` names the method by its kind in /api/v1 (`lora` if it is absent, `full`, `dora`, …),
    `vezna_max_length` the tokens of a conversation that are read; other keys are kept and mean nothing."""
    integrations: Annotated[list[Any] | None, AfterValidator(_nothing)] = None
    """Not supported."""

    @model_validator(mode="after")
    def _once(self) -> "JobRequest":
        if self.hyperparameters is not None and self.method is not None:
            raise invalid_field(
                "hyperparameters",
                _("They are given twice: also in method"),
                _("Leave one of them out"),
            )
        return self

    @property
    def chosen(self) -> Hyperparameters:
        """The hyperparameters, wherever they are."""
        return self.hyperparameters or (self.method.hyperparameters if self.method else Hyperparameters())

    @property
    def task(self) -> Task:
        """Of the run."""
        return "preference" if self.method is not None and self.method.type == "dpo" else "causal-lm"


class JobError(BaseModel):
    """Why a job failed."""

    model_config = ConfigDict(frozen=True)

    code: str
    message: str
    param: str | None = None


def run_spec(request: JobRequest, dataset: str, facts: ModelFacts | None) -> RunSpec:
    """The run of a job on a dataset. Raises Invalid."""
    metadata, chosen = request.metadata or {}, request.chosen
    length = metadata.get(LENGTH, "")
    if length and not re.fullmatch(r"[0-9]{1,6}", length):
        raise Invalid.field(
            f"metadata.{LENGTH}", _("%(text)r is not a number of tokens", text=length), _("Write it as: 1024")
        )
    positions = facts.max_positions if facts and facts.max_positions else MAX_LENGTH
    training: dict[str, Any] = {
        "num_train_epochs": EPOCHS if chosen.n_epochs == "auto" else chosen.n_epochs,
        "per_device_train_batch_size": BATCH_SIZE if chosen.batch_size == "auto" else chosen.batch_size,
        "max_length": int(length) if length else min(MAX_LENGTH, positions),
        "max_new_tokens": max(1, min(NEW_TOKENS, positions // 4)),
        "seed": request.seed or 0,
    }
    if isinstance(chosen, PreferenceHyperparameters) and chosen.beta != "auto":
        training["beta"] = chosen.beta
    try:
        spec = RunSpec.model_validate(
            {
                "base_model": request.model,
                "dataset": dataset,
                "task": request.task,
                "method": {"kind": metadata.get(METHOD, "lora")},
                "training": training,
            }
        )
    except ValidationError as error:
        raise Invalid.of([_named(details) for details in error.errors()]) from None
    spec = spec.with_default_rate(facts.width(spec.task) if facts else None)
    if chosen.learning_rate_multiplier == "auto":
        return spec
    rate = {"learning_rate": spec.learning_rate * chosen.learning_rate_multiplier}
    return spec.model_copy(update={"training": spec.training.model_copy(update=rate)})


def _named(details: Any) -> Any:
    error = field_error(details, {})
    return replace(error, path=param_of(error.path))


def param_of(path: str) -> str:
    """The field of a job that decides a field of its run."""
    return next((param for run, param in PARAMS.items() if path == run or path.startswith(f"{run}.")), path)


def mapping_of(scan: SourceScan, task: Task) -> ColumnMapping:
    """The columns of a file of conversations, or of preference pairs. Raises Invalid."""
    able = tuple(form for form in TASKS[task].formats if form != "text")
    if scan.mapping is not None and scan.mapping.format in able:
        return scan.mapping
    names = ", ".join(column.name for column in scan.columns[:10])
    if TASKS[task].prefers:
        raise Invalid.field(
            "training_file",
            _("The file has no preference pairs; its columns are %(names)s", names=names),
            _("Write a JSONL file with input, preferred_output and non_preferred_output in each line"),
        )
    raise Invalid.field(
        "training_file",
        _("The file has no conversations; its columns are %(names)s", names=names),
        _("Write a JSONL file with a list messages of role and content in each line"),
    )
