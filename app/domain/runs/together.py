"""Which runs can train together on one frozen base model, and the memory that they take.

A group has one copy of the base model. Each member has its own adapter, optimizer and batch:

    peak of K members = frozen weights + K · (peak of one − frozen weights + stacked copies of its A and B)

That is an upper limit: the copies that autocast makes of frozen weights exist once too.
"""

from typing import Literal

from app.domain.methods import LoraSpec
from app.domain.resources.estimate import ResourceEstimate
from app.domain.runs.spec import RunSpec
from app.domain.tasks import TASKS

TrainTogether = Literal["none", "trials", "trials_and_seeds"]
"""Which runs of a study may: none; trials of an arm with the same seed; also seeds of an arm, but for one, usually
its first, whose time and memory are the arm's."""
MOST_MEMBERS = 8
"""Of a group."""
OWN_TRAINING = {"seed", "learning_rate", "weight_decay", "warmup_steps", "lr_scheduler_type", "max_grad_norm"}
OWN_METHOD = {"lora_alpha", "loraplus_lr_ratio"}
"""What each member has its own of."""
FLOAT32 = 4
COPIES = 2
"""Of A and B in a joint pass: stacked, and the gradients of these."""


def can_train_together(spec: RunSpec) -> bool:
    """Whether the method is one that several runs can have on one base model: LoRA that leaves its weights alone."""
    method = spec.method
    return (
        isinstance(method, LoraSpec)
        and TASKS[spec.task].sequences == 1
        and TASKS[spec.task].reads == "texts"
        and not method.use_dora
        and method.bias == "none"
        and method.init_lora_weights not in ("pissa", "pissa_niter_16", "olora")
        and not spec.training.packing
        and not spec.training.padding_free
        and not spec.training.compile_blocks
        and spec.training.devices == 1
    )


def same_shapes(one: RunSpec, other: RunSpec) -> bool:
    """Whether two such runs differ in nothing but what each member has its own of."""
    return _shared(one) == _shared(other)


def group_peak_bytes(estimate: ResourceEstimate, members: int) -> int:
    """The estimated peak of a group of runs with this estimate each, without the device's constant."""
    trained = FLOAT32 * estimate.trainable
    frozen = max(0, estimate.ledger.owners["weights"] - trained)
    own = estimate.peak_bytes - frozen + COPIES * trained
    return frozen + members * own


def most_members(estimate: ResourceEstimate, usable_bytes: float, constant: float) -> int:
    """How many members fit into memory; at least 1, since a run alone is not refused for its estimate."""
    first, second = (group_peak_bytes(estimate, members) for members in (1, 2))
    return max(1, int((usable_bytes - constant - first) // (second - first)) + 1)


def _shared(spec: RunSpec) -> RunSpec:
    training = spec.training.model_copy(update=dict.fromkeys(OWN_TRAINING))
    method = spec.method.model_copy(update=dict.fromkeys(OWN_METHOD))
    return spec.model_copy(update={"training": training, "method": method})
