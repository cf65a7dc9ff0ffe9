"""A base model with its method but without memory, built from the configuration alone on torch's `meta` device."""

from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from app.domain.errors import first_line
from app.domain.failures import FailureCode, RunFailed
from app.domain.messages import _
from app.domain.methods import AnyMethod, LoraSpec, QloraSpec
from app.domain.models.architecture import TaskModel
from app.domain.resources.estimate import EstimateRequest
from app.domain.runs.in_batch import clash_of
from worker.engine.estimation.fake import pack
from worker.engine.memory.measured import tensor_bytes
from worker.engine.methods import MECHANISMS
from worker.engine.models.architecture import built_on_meta, describe
from worker.engine.models.hub import hub
from worker.engine.models.load import attention, check_task, harmless, load_config, recompute, refuse_offload
from worker.engine.models.precision import freeze_in_bf16, kept_in_float32, settle
from worker.engine.models.weights import stored_dtype
from worker.engine.tasks import TASKS


class Unloaded(NamedTuple):
    """A model without memory, with its method."""

    base: PreTrainedModel
    """The base model on the `meta` device, for the task's encoding."""
    model: nn.Module
    facts: TaskModel
    loaded_bytes: int
    """Peak bytes while the base model is loaded: on the host or, with CUDA, on the device."""


def configuration(request: EstimateRequest) -> PreTrainedConfig:
    """The request's configuration, with its number of labels. Raises `RunFailed` unless transformers supports it."""
    pasted = request.config
    config = load_config(request.location, request.revision) if pasted is None else _from_json(pasted)
    check_task(config, request.task)
    config.num_labels = request.labels
    return config


def _from_json(values: dict[str, Any]) -> PreTrainedConfig:
    kind = values.get("model_type")
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        if not kind:
            text = _(
                "A configuration without model_type is not supported. Paste the config.json of a model such as T5."
            )
        elif "auto_map" in values:
            text = _(
                "model_type %(kind)r needs Python code from its repository, which Vezna never runs. Paste the "
                "config.json of a model such as T5.",
                kind=kind,
            )
        else:
            text = _(
                "The installed transformers does not know model_type %(kind)r. Paste the config.json of a model such "
                "as T5.",
                kind=kind,
            )
        raise RunFailed(FailureCode.BAD_CONFIGURATION, text)
    content = {name: value for name, value in values.items() if name not in ("model_type", "auto_map")}
    try:
        config: PreTrainedConfig = AutoConfig.for_model(kind, **content)
    except MemoryError:
        raise
    except Exception as error:  # an architecture may raise anything for unexpected values
        text = _("config: %(error)s.", error=_first_line(error))
        raise RunFailed(FailureCode.BAD_CONFIGURATION, text) from error
    return harmless(config)


def unloaded(request: EstimateRequest) -> Unloaded:
    """Build the model on `meta`. Raises `RunFailed(bad_configuration)` if model or method is impossible."""
    config, task, method = configuration(request), TASKS[request.task], _without_values(request.method)
    folder = hub.description_folder(request.location, request.revision) if request.config is None else None
    dtype = stored_dtype(folder, config_dtype(config)) if folder else config_dtype(config)
    base = on_meta(config, task.AUTO, attn_implementation=attention(config, request.task), dtype=dtype)
    facts = describe(base, request.task)
    if error := method.incompatibility(facts) or clash_of(method, request.task, request.training):
        raise RunFailed(
            FailureCode.BAD_CONFIGURATION,
            error.located,
        )
    refuse_offload(method, request.device)
    stored_bytes = _bytes(base)
    settle(base, kept_in_float32(method, facts), torch.device("meta"), bf16=request.bf16)
    with torch.device("meta"):
        model = MECHANISMS[method.mechanism].apply(base, method, facts)
    if request.training.gradient_checkpointing:
        recompute(base, method)
    packed = _packed(model, base, facts) if isinstance(method, QloraSpec) else {}
    pack(model, list(packed), torch.bfloat16 if request.bf16 else torch.float32)
    if request.bf16:
        freeze_in_bf16(model)
    loaded = _bytes(model)
    if request.device == "cpu" and packed:
        # Each matrix is read, quantized and freed, but the pages of its file stay until all of them are.
        loaded += stored_bytes
    return Unloaded(base, model, facts, loaded)


def config_dtype(config: PreTrainedConfig) -> torch.dtype:
    """The dtype of the stored weights by a configuration that no model was built from yet: building would set it."""
    dtype = getattr(config, "dtype", None)
    return dtype if dtype in (torch.float16, torch.bfloat16) else torch.float32


def on_meta(config: PreTrainedConfig, auto: Any, **options: Any) -> PreTrainedModel:
    """Build the model of a configuration, by one of transformers' auto classes. Raises `RunFailed(bad_configuration)`
    if transformers cannot."""
    try:
        return built_on_meta(lambda: auto.from_config(config, **options))
    except MemoryError:  # the process's limit, which its caller reports
        raise
    except Exception as error:  # an architecture may raise anything for an unexpected configuration
        text = _(
            "transformers cannot build this model of type %(type)r: %(error)s. Choose another base model.",
            type=config.model_type,
            error=_first_line(error),
        )
        raise RunFailed(FailureCode.BAD_CONFIGURATION, text) from error


def _without_values(method: AnyMethod) -> AnyMethod:
    """The spec without an initialization that is computed from weights (PiSSA, OLoRA): its shapes are those of the
    default."""
    if isinstance(method, LoraSpec) and isinstance(method.init_lora_weights, str):
        return method.model_copy(update={"init_lora_weights": True})
    return method


def _packed(model: nn.Module, base: PreTrainedModel, facts: TaskModel) -> dict[str, int]:
    """Number of values in each linear layer that bitsandbytes would quantize; some architectures keep layers in float32
    (T5's `wo`)."""
    in_float32 = set(getattr(base, "_keep_in_fp32_modules", None) or ())
    sizes = {
        layer.name: layer.out_features * layer.in_features
        for layer in facts.linear
        if not in_float32.intersection(layer.name.split("."))
    }
    return {name: sizes[bare(name)] for name, _ in model.named_modules() if bare(name) in sizes}


def _bytes(model: nn.Module) -> int:
    return tensor_bytes([*model.parameters(), *model.buffers()])


def bare(name: str) -> str:
    """A parameter name as in the base model."""
    for wrapper in ("base_model.model.", "modules_to_save.default.", "original_module.", "base_layer."):
        name = name.replace(wrapper, "")
    return name


def _first_line(error: Exception) -> str:
    """The first line of the error; one that ends in a colon continues in the next."""
    lines = [line.strip() for line in str(error).strip().split("\n")[:2]]
    return " ".join(lines).rstrip(".:") if lines[0].endswith(":") else first_line(error)


def resting_blocks(model: nn.Module, facts: TaskModel) -> list[nn.Module]:
    """Disable dropout below everything that trains, as `worker.engine.loop.prefix.frozen_prefix` does; returns those
    blocks."""
    if facts.encoder_decoder:
        return []
    behind = {f"{p.name.rpartition('.')[0]}." for p in facts.parameters if facts.follows_blocks(p.name)}

    def above(name: str) -> bool:
        return facts.in_head(name) or f"{name}.".startswith(tuple(behind))

    trains = [bare(name) for name, p in model.named_parameters() if p.requires_grad]
    within = [block for name in trains if (block := facts.block_of(name)) is not None]
    if any(facts.block_of(name) is None and not above(name) for name in trains):
        return []  # something below the blocks trains
    depth = min(within, default=len(facts.blocks))
    for name, module in model.named_modules():
        own = bare(name)
        block = facts.block_of(f"{own}.")
        if block is not None:
            module.training = block >= depth
        elif not any(module.children()):  # the model itself and the list of its blocks stay in training mode
            module.training = above(own)
    resting = set(facts.blocks[:depth])
    return [module for name, module in model.named_modules() if bare(name) in resting]
