"""Ways out where a run does not fit: other settings that need less, each to be predicted like any run.

A way out changes one thing. Which of them help, and how much, is not assumed: each is worked out, and ranked by what it
saves.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

from app.domain.methods import AnyMethod, FullSpec, LoraSpec, QloraSpec
from app.domain.resources.estimate import PredictionRequest

WayName = Literal["lora", "bf16", "checkpointing", "accumulation", "shorter", "qlora"]
WAYS: dict[WayName, str] = {
    "lora": "LoRA instead of full fine-tuning",
    "bf16": "compute in bfloat16, with the frozen base held in it",
    "checkpointing": "gradient checkpointing: about a third more time",
    "accumulation": "a smaller batch with accumulation: the same steps, each in parts",
    "shorter": "half the max_length: longer rows lose their end",
    "qlora": "QLoRA: the base held in four bits",
}
"""What each does, in words."""


LORA = LoraSpec(r=8, lora_alpha=16)


class WayOut(NamedTuple):
    """A changed request."""

    name: WayName
    fields: dict[str, object]
    """What to set, by path: `training.per_device_train_batch_size`."""
    request: PredictionRequest


def ways_out(request: PredictionRequest, lora: LoraSpec = LORA) -> Iterator[WayOut]:
    """Every way out that changes something, in no order. `lora`: of some models it must be told which layers."""
    method, training = request.method, request.training
    if isinstance(method, FullSpec):
        yield WayOut("lora", {"method": _shown(lora)}, _with(request, method=lora))
    if not request.bf16:
        yield WayOut("bf16", {"training.bf16": True}, _with(request, bf16=True))
    if not training.gradient_checkpointing and "gradient_checkpointing" not in method.without:
        fields: dict[str, object] = {"gradient_checkpointing": True}
        yield WayOut("checkpointing", _paths(fields), _training(request, fields))
    size = training.per_device_train_batch_size
    if size > 1:
        parts = next(n for n in (4, 2, size) if size % n == 0)
        fields = {
            "per_device_train_batch_size": size // parts,
            "gradient_accumulation_steps": training.gradient_accumulation_steps * parts,
        }
        yield WayOut("accumulation", _paths(fields), _training(request, fields))
    if training.max_length >= 64:
        fields = {"max_length": training.max_length // 2}
        yield WayOut("shorter", _paths(fields), _training(request, fields))
    if isinstance(method, LoraSpec | FullSpec) and request.device == "cuda":
        qlora = QloraSpec()
        yield WayOut("qlora", {"method": _shown(qlora)}, _with(request, method=qlora))


def _shown(method: AnyMethod) -> dict[str, object]:
    return {"kind": method.kind, **method.model_dump(mode="json", exclude_defaults=True)}


def _paths(fields: dict[str, object]) -> dict[str, object]:
    return {f"training.{name}": value for name, value in fields.items()}


def _training(request: PredictionRequest, fields: dict[str, object]) -> PredictionRequest:
    return _with(request, training=request.training.model_copy(update=fields))


def _with(request: PredictionRequest, **update: object) -> PredictionRequest:
    return request.model_copy(update=update)
