"""A run: one fine-tuning: its specification, its states and its phases."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from app.domain.methods import MethodSpec
from app.domain.names import Name, wrong
from app.domain.tasks import METRICS, TASKS, MetricName, Task


def _no_truth(value: object) -> object:
    if isinstance(value, bool):
        raise wrong("", "a whole number is wanted, not true or false", "a whole number from 0 to 4294967295")
    return value


Seed = Annotated[int, Field(ge=0, lt=2**32), BeforeValidator(_no_truth)]
MOST_STEPS = 10_000_000


class TrainingArguments(BaseModel):
    """How a run trains. Names and meanings are those of `transformers.TrainingArguments`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    learning_rate: float | None = Field(default=None, gt=0, le=10)
    """Peak rate of AdamW; None takes the method's default."""
    num_train_epochs: float = Field(default=3, gt=0, le=1000)
    max_steps: int | None = Field(default=None, ge=1, le=MOST_STEPS)
    """Optimizer steps; overrides the epochs."""
    per_device_train_batch_size: int = Field(default=16, ge=1, le=4096)
    per_device_eval_batch_size: int = Field(default=64, ge=1, le=4096)
    gradient_accumulation_steps: int = Field(default=1, ge=1, le=4096)
    warmup_steps: float = Field(default=0.06, ge=0, le=MOST_STEPS)
    """Steps; a value below 1 is a share of all steps."""
    lr_scheduler_type: Literal["linear", "cosine", "constant"] = "linear"
    weight_decay: float = Field(default=0.0, ge=0, le=10)
    max_grad_norm: float = Field(default=1.0, ge=0, le=1_000_000)
    """Gradients are scaled down to this norm; 0 leaves them."""
    bf16: bool | None = None
    """Compute in bfloat16 by autocast, with frozen weights kept in it too; what trains stays in float32. False is
    float32 throughout; None is true where the device has bfloat16 arithmetic."""
    gradient_checkpointing: bool = False
    """Keep only each block's input for the backward pass and compute the rest again (Chen et al. 2016, arXiv
    1604.06174): less memory, about a third more time."""
    max_length: int = Field(default=128, ge=2, le=131072)
    """Tokens a row is cut to; of a prompt and a completion, the prompt is cut first."""
    completion_only_loss: bool = True
    """Language models learn from completion tokens only; False adds the prompt's."""
    packing: bool = False
    """causal-lm: several rows side by side up to `max_length`, each blind to the others."""
    max_new_tokens: int = Field(default=64, ge=1, le=8192)
    """Tokens to generate at most after a prompt of the test split, whichever metric a verdict rests on; a decoder keeps
    so many of its positions free for them."""
    eval_strategy: Literal["epoch", "steps"] = "epoch"
    eval_steps: int | None = Field(default=None, ge=1, le=MOST_STEPS)
    """Optimizer steps from one evaluation to the next, with `eval_strategy: steps`."""
    early_stopping_patience: int | None = Field(default=None, ge=1, le=1000)
    """Stop after so many evaluations in a row that are no better than the best one."""
    cache_frozen_prefix: bool = True
    """Where all below some block is frozen, compute its activations once and read them back after that."""
    seed: Seed = 0
    """Fixes the head's initial weights, dropout and the order of the data."""

    @model_validator(mode="after")
    def _steps_are_counted(self) -> "TrainingArguments":
        if self.eval_strategy == "steps" and self.eval_steps is None:
            raise wrong("eval_steps", "eval_strategy is steps, and eval_steps does not say how many", "such as 100")
        return self


class RunSpec(BaseModel):
    """Everything that decides a run's outcome on a given device."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_model: Name = Field(max_length=200)
    """Name of a registered base model."""
    dataset: Name = Field(max_length=200)
    """Name of a registered dataset."""
    task: Task = "sequence-classification"
    method: MethodSpec
    training: TrainingArguments = TrainingArguments()
    metric: MetricName | None = None
    """What a verdict rests on; None takes the task's own."""
    general_text: Name | None = Field(default=None, max_length=200)
    """Name of a registered dataset of plain texts on which forgetting is measured: language models only."""

    @model_validator(mode="after")
    def _metric_is_the_tasks(self) -> "RunSpec":
        check_metric(self.task, self.metric, self.general_text)
        return self

    @property
    def verdict_metric(self) -> MetricName:
        """The metric that a verdict rests on."""
        return self.metric or TASKS[self.task].metric


def check_metric(task: Task, metric: MetricName | None, general_text: str | None) -> None:
    """Raise a field error unless a task has the metric, per item, and a language model to forget something."""
    able = [name for name in TASKS[task].metrics if METRICS[name].per_item]
    if metric is not None and metric not in able:
        raise wrong("metric", f"a verdict on {task} cannot rest on {metric}", f"one of {', '.join(able)}")
    if general_text is not None and TASKS[task].adds_head:
        raise wrong("general_text", f"forgetting is measured on language models, not on {task}", "leave it out")


class RunStatus(StrEnum):
    """Where a run stands. The last three are terminal."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """Nothing follows it."""
        return self not in (RunStatus.QUEUED, RunStatus.RUNNING)


TRANSITIONS: dict[RunStatus, frozenset[RunStatus]] = {
    RunStatus.QUEUED: frozenset({RunStatus.RUNNING, RunStatus.CANCELLED}),
    RunStatus.RUNNING: frozenset({RunStatus.QUEUED, RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED}),
    RunStatus.SUCCEEDED: frozenset(),
    RunStatus.FAILED: frozenset(),
    RunStatus.CANCELLED: frozenset(),
}
"""Legal changes. `running → queued` is a new attempt after a lost worker or a shutdown."""


class Phase(StrEnum):
    """What an attempt is doing; each is a clock."""

    DOWNLOAD = "download"
    """Only where the machine lacks files of the base model."""
    LOAD = "load"
    TOKENIZE = "tokenize"
    BASELINE = "baseline"
    TRAIN = "train"
    EVALUATE = "evaluate"
    SAVE = "save"
