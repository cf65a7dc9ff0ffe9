"""Memory savings where a run does not fit: other settings, each estimated like any run.

Each option changes one thing. How much it saves is not assumed but estimated, and the options are ranked by it.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

from app.domain.messages import _
from app.domain.methods import AnyMethod, LeanFullSpec, LoraSpec, QloraSpec
from app.domain.methods.selection import EveryWeight
from app.domain.resources.estimate import EstimateRequest
from app.domain.tasks import TASKS

SavingName = Literal[
    "lora", "adamw-8bit", "lean", "offload", "bf16", "checkpointing", "accumulation", "shorter", "qlora"
]
SAVINGS: dict[SavingName, str] = {
    "lora": _("LoRA instead of full fine-tuning"),
    "adamw-8bit": _("full fine-tuning with 8-bit AdamW"),
    "lean": _("full fine-tuning with 8-bit AdamW and bfloat16 weights, rounded stochastically"),
    "offload": _("activations in the host's memory, with gradient checkpointing: more time"),
    "bf16": _("bfloat16 precision, frozen weights included"),
    "checkpointing": _("gradient checkpointing: about a third more time"),
    "accumulation": _("a smaller batch size with gradient accumulation: the same steps"),
    "shorter": _("half the max length: longer rows are truncated"),
    "qlora": _("QLoRA: the frozen weights in 4 bits"),
}


class SavingOption(NamedTuple):
    """A changed request."""

    name: SavingName
    fields: dict[str, object]
    """What to set, by path: `training.per_device_train_batch_size`."""
    request: EstimateRequest


def saving_options(request: EstimateRequest) -> Iterator[SavingOption]:
    """Every option that changes something and trains on as many devices, unordered."""
    alone = request.training.devices == 1
    return (option for option in _changes(request) if alone or option.request.method.undistributed is None)


def _changes(request: EstimateRequest) -> Iterator[SavingOption]:
    method, training = request.method, request.training
    if isinstance(method, EveryWeight):
        yield _method("lora", request, LoraSpec())
        if not isinstance(method, LeanFullSpec):
            yield _method("adamw-8bit", request, LeanFullSpec(weight_storage="float32"))
        if training.bf16 is not False and method != LeanFullSpec():
            yield _method("lean", request, LeanFullSpec())
    on_card = request.device == "cuda" and not training.compile_blocks
    if on_card and isinstance(method, LeanFullSpec) and not method.offload_activations:
        offloaded = _method("offload", request, method.model_copy(update={"offload_activations": True}))
        yield _with_training(offloaded, {"gradient_checkpointing": True})
    if not request.bf16:
        yield SavingOption("bf16", {"training.bf16": True}, request.model_copy(update={"bf16": True}))
    if not training.gradient_checkpointing and "gradient_checkpointing" not in method.without:
        yield _training("checkpointing", request, {"gradient_checkpointing": True})
    size = training.per_device_train_batch_size
    if size > 1 and not TASKS[request.task].in_batch:
        parts = next(n for n in (4, 2, size) if size % n == 0)
        steps = training.gradient_accumulation_steps * parts
        fields = {"per_device_train_batch_size": size // parts, "gradient_accumulation_steps": steps}
        yield _training("accumulation", request, fields)
    if training.max_length >= 64 and TASKS[request.task].reads == "texts":
        yield _training("shorter", request, {"max_length": training.max_length // 2})
    if isinstance(method, LoraSpec | EveryWeight) and request.device == "cuda":
        yield _method("qlora", request, QloraSpec())


def _method(name: SavingName, request: EstimateRequest, method: AnyMethod) -> SavingOption:
    fields = {"kind": method.kind, **method.model_dump(mode="json", exclude_defaults=True)}
    changed = request.model_copy(update={"method": method, "bf16": request.bf16 or method.computes_in_bf16})
    return SavingOption(name, {"method": fields}, changed)


def _with_training(option: SavingOption, fields: dict[str, int]) -> SavingOption:
    changed = _training(option.name, option.request, fields)
    return changed._replace(fields=option.fields | changed.fields)


def _training(name: SavingName, request: EstimateRequest, fields: dict[str, int]) -> SavingOption:
    training = request.training.model_copy(update=fields)
    paths: dict[str, object] = {f"training.{field}": value for field, value in fields.items()}
    return SavingOption(name, paths, request.model_copy(update={"training": training}))
