"""Ways out where a run does not fit: other settings that need less, each to be predicted like any run.

A way out changes one thing. Which of them help, and how much, is not assumed: each is worked out, and ranked by what it
saves.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

from app.domain.messages import _
from app.domain.methods import AnyMethod, FullSpec, LoraSpec, QloraSpec
from app.domain.resources.estimate import EstimateRequest

SavingName = Literal["lora", "bf16", "checkpointing", "accumulation", "shorter", "qlora"]
SAVINGS: dict[SavingName, str] = {
    "lora": _("LoRA instead of full fine-tuning"),
    "bf16": _("compute in bfloat16, with the frozen base held in it"),
    "checkpointing": _("gradient checkpointing: about a third more time"),
    "accumulation": _("a smaller batch with accumulation: the same steps, each in parts"),
    "shorter": _("half the max_length: longer rows lose their end"),
    "qlora": _("QLoRA: the base held in four bits"),
}
"""What each does, in words."""


LORA = LoraSpec(r=8, lora_alpha=16)


class SavingOption(NamedTuple):
    """A changed request."""

    name: SavingName
    fields: dict[str, object]
    """What to set, by path: `training.per_device_train_batch_size`."""
    request: EstimateRequest


def saving_options(request: EstimateRequest, lora: LoraSpec = LORA) -> Iterator[SavingOption]:
    """Every way out that changes something, in no order. `lora`: of some models it must be told which layers."""
    method, training = request.method, request.training
    if isinstance(method, FullSpec):
        yield SavingOption("lora", {"method": _shown(lora)}, _with(request, method=lora))
    if not request.bf16:
        yield SavingOption("bf16", {"training.bf16": True}, _with(request, bf16=True))
    if not training.gradient_checkpointing and "gradient_checkpointing" not in method.without:
        fields: dict[str, object] = {"gradient_checkpointing": True}
        yield SavingOption("checkpointing", _paths(fields), _training(request, fields))
    size = training.per_device_train_batch_size
    if size > 1:
        parts = next(n for n in (4, 2, size) if size % n == 0)
        fields = {
            "per_device_train_batch_size": size // parts,
            "gradient_accumulation_steps": training.gradient_accumulation_steps * parts,
        }
        yield SavingOption("accumulation", _paths(fields), _training(request, fields))
    if training.max_length >= 64:
        fields = {"max_length": training.max_length // 2}
        yield SavingOption("shorter", _paths(fields), _training(request, fields))
    if isinstance(method, LoraSpec | FullSpec) and request.device == "cuda":
        qlora = QloraSpec()
        yield SavingOption("qlora", {"method": _shown(qlora)}, _with(request, method=qlora))


def _shown(method: AnyMethod) -> dict[str, object]:
    return {"kind": method.kind, **method.model_dump(mode="json", exclude_defaults=True)}


def _paths(fields: dict[str, object]) -> dict[str, object]:
    return {f"training.{name}": value for name, value in fields.items()}


def _training(request: EstimateRequest, fields: dict[str, object]) -> EstimateRequest:
    return _with(request, training=request.training.model_copy(update=fields))


def _with(request: EstimateRequest, **update: object) -> EstimateRequest:
    return request.model_copy(update=update)
