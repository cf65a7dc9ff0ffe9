"""Training arguments: names and meanings are those of `transformers.TrainingArguments`."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from app.domain.errors import FieldError
from app.domain.messages import _
from app.domain.runs.capabilities import Capability
from app.domain.tasks import Task, tasks_where
from app.domain.validation import invalid_field

MAX_STEPS = 10_000_000
MAX_LEARNING_RATE = 10.0
MAX_DEVICES = 64
LearningRate = Annotated[float, Field(gt=0, le=MAX_LEARNING_RATE)]


def _not_a_boolean(value: object) -> object:
    if isinstance(value, bool):
        raise invalid_field(
            "", _("A seed is a whole number, not true or false"), _("Use a whole number from 0 to 4294967295")
        )
    return value


Seed = Annotated[int, Field(ge=0, lt=2**32), BeforeValidator(_not_a_boolean)]

TASKS_OF: Mapping[str, tuple[Task, ...]] = {
    "max_length": tasks_where(lambda task: task.reads == "texts"),
    "packing": tasks_where(lambda task: task.packs),
    **dict.fromkeys(("gradient_accumulation_steps", "devices"), tasks_where(lambda task: not task.in_batch)),
    **dict.fromkeys(("padding_free", "compile_blocks"), tasks_where(lambda task: task.blockwise)),
    **dict.fromkeys(("preference_loss", "beta"), tasks_where(lambda task: task.prefers)),
    **dict.fromkeys(("completion_only_loss", "max_new_tokens"), tasks_where(lambda task: task.generates)),
}
"""Training arguments that apply to some tasks only."""


def applies(name: str, task: Task) -> bool:
    """Whether runs of a task use a training argument."""
    return task in TASKS_OF.get(name, (task,))


class TrainingBudget(BaseModel):
    """The training arguments that all arms of a study share."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    train_fraction: float = Field(default=1.0, gt=0, le=1)
    """Share of the training rows that a run uses (`app.domain.data.dataset.training_rows`)."""
    num_train_epochs: float = Field(default=3, gt=0, le=1000)
    max_steps: int | None = Field(default=None, ge=1, le=MAX_STEPS)
    """Optimizer steps; overrides `num_train_epochs`."""
    per_device_train_batch_size: int = Field(default=16, ge=1, le=4096)
    per_device_eval_batch_size: int = Field(default=64, ge=1, le=4096)
    gradient_accumulation_steps: int = Field(default=1, ge=1, le=4096)
    """Micro-batches for each optimizer step, on all devices together."""
    devices: int = Field(default=1, ge=1, le=MAX_DEVICES)
    """Devices of one worker that train a run together: GPUs, or processes on a CPU. They divide the micro-batches of a
    step, so the result is that of one device."""
    warmup_steps: float = Field(default=0.06, ge=0, le=MAX_STEPS)
    """Steps; a value below 1 is a share of all steps."""
    lr_scheduler_type: Literal["linear", "cosine", "constant"] = "linear"
    weight_decay: float = Field(default=0.0, ge=0, le=10)
    max_grad_norm: float = Field(default=1.0, ge=0, le=1_000_000)
    """Gradients are clipped to this norm; 0 disables clipping."""
    bf16: bool | None = None
    """True computes in bfloat16 by autocast, with frozen weights stored in bfloat16 and trainable weights in float32.
    False is float32 throughout. None is true where the device has bfloat16 arithmetic."""
    gradient_checkpointing: bool = False
    """Keep only each block's input for the backward pass and recompute the other activations (Chen et al. 2016, arXiv
    1604.06174): less memory, about a third more time."""
    max_length: int = Field(default=128, ge=2, le=131072)
    """Rows are truncated to this many tokens; of a prompt and a completion, the prompt is truncated first."""
    completion_only_loss: bool = True
    """Language models learn from completion tokens only; False includes the prompt's tokens in the loss."""
    preference_loss: Literal["dpo", "orpo"] = "dpo"
    """preference: direct preference optimization (Rafailov et al. 2023, arXiv 2305.18290, equation 7), relative to the
    base model, or odds ratio preference optimization (Hong et al. 2024, arXiv 2403.07691, equations 6 and 7)."""
    beta: float = Field(default=0.1, gt=0, le=100)
    """preference: of DPO, how strongly the loss holds the model to the base model; of ORPO the weight of the odds ratio
    beside the loss of the chosen answer (lambda in the paper)."""
    packing: bool = False
    """causal-lm: several rows share a sequence of up to `max_length` tokens; no row attends to another."""
    padding_free: bool = False
    """All tasks but seq2seq-lm and sentence-embeddings: blocks compute a batch's rows one after another, without
    padding, and rows are not sorted by length. The same loss, with less work where lengths differ."""
    compile_blocks: bool = False
    """All tasks but seq2seq-lm and sentence-embeddings: `torch.compile` for the blocks in training. The same loss
    within rounding; compiling takes a minute or more, which is not train time."""
    max_new_tokens: int = Field(default=64, ge=1, le=8192)
    """Tokens generated at most after a prompt of the test split, whichever metric a verdict rests on. A decoder keeps
    this many of its positions free for them."""
    eval_strategy: Literal["epoch", "steps"] = "epoch"
    eval_steps: int | None = Field(default=None, ge=1, le=MAX_STEPS)
    """Optimizer steps between two evaluations, with `eval_strategy: steps`."""
    early_stopping_patience: int | None = Field(default=None, ge=1, le=1000)
    """Stop after this many consecutive evaluations without an improvement."""
    cache_frozen_prefix: bool = True
    """Where every parameter below some block is frozen, compute the activations there once and reuse them."""

    @model_validator(mode="after")
    def _check_eval_steps(self) -> Self:
        if self.eval_strategy == "steps" and self.eval_steps is None:
            raise invalid_field(
                "eval_steps", _('eval_strategy is "steps", but eval_steps is missing'), _("Set it to, for example, 100")
            )
        return self

    @model_validator(mode="after")
    def _check_devices(self) -> Self:
        if problem := self.devices_problem:
            raise invalid_field(problem.path, problem.message, problem.remedy)
        return self

    @property
    def needed(self) -> frozenset[Capability]:
        """Capabilities that a worker needs, with these settings."""
        return frozenset({"compile"}) if self.compile_blocks else frozenset()

    @property
    def devices_problem(self) -> FieldError | None:
        """Why this number of devices cannot train a run together, or None."""
        devices, batches = self.devices, self.gradient_accumulation_steps
        if devices > 1 and self.padding_free:
            what = _("Padding-free batches train on one device only")
            return FieldError("devices", what, _("Set it to 1, or leave padding_free out"))
        if devices > 1 and self.compile_blocks:
            what = _("Compiled blocks train on one device only")
            return FieldError("devices", what, _("Set it to 1, or leave compile_blocks out"))
        if batches % devices == 0:
            return None
        rows = batches * self.per_device_train_batch_size
        what = _(
            "%(devices)s devices divide the micro-batches of an optimizer step among them, and "
            "gradient_accumulation_steps (%(batches)s) is not a multiple",
            devices=devices,
            batches=batches,
        )
        if rows % devices:
            remedy = _("Choose a number of rows per optimizer step that is a multiple of %(devices)s", devices=devices)
        else:
            remedy = _(
                "For the same %(rows)s rows per optimizer step, set gradient_accumulation_steps to %(devices)s and "
                "per_device_train_batch_size to %(size)s",
                rows=rows,
                devices=devices,
                size=rows // devices,
            )
        return FieldError("devices", what, remedy)


class TrainingArguments(TrainingBudget):
    """How a run trains: a budget, and what a study chooses for each of its runs."""

    learning_rate: LearningRate | None = None
    """Peak rate of AdamW; None takes the method's default (`Method.learning_rate`)."""
    seed: Seed = 0
    """Fixes the initial weights of a new head, dropout and the order of the data."""
