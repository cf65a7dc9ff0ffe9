"""Check the weights of a merged export, tensor by tensor, by another way than that of the merge.

    E = W + ΔW in float64        LoRA: ΔW = s·B·A by its definition, s from the adapter's config; other methods of PEFT:
                                 the layer merged in float64; what trained as it is: its saved values
    |T − E| ≤ ½ ulp(E) + ε       T the export's number, ulp that of its dtype, ε the rounding of the sum in float32

A tensor beyond that is not the run's: a matrix that was not merged, a wrong scale, a weight that was rounded before ΔW
was added.
"""

import copy
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import ModulesToSaveWrapper
from safetensors import safe_open
from torch import nn
from transformers.core_model_loading import revert_weight_conversion

from app.domain.comparison.fairness.export_gate import WeightCheck
from app.domain.models.exports import ExportJob
from worker.engine.models.trained import attach, base_model, whole_model
from worker.engine.models.weights import weight_files
from worker.features.shipping.exporting.formats import DTYPES
from worker.features.shipping.exporting.progress import Report, quiet

Values = Callable[[str], torch.Tensor]
"""The values of a tensor, by its name in the export: float64."""
SUM_ERROR = 2.0**-20
"""ε as a share of the tensor's largest number: 16 roundings to float32."""


class Expectation(NamedTuple):
    names: set[str]
    value: Values
    before: Values | None
    """W, before training; None where the run saved the whole model."""


def check_weights(job: ExportJob, report: Report = quiet) -> WeightCheck:
    """Compare every tensor of an export in safetensors in `job.job.output`, and report after each. `wrong` has all
    names."""
    names, expected, _before = expectation(job)
    dtype = DTYPES[job.format.dtype]
    wrong, largest, present = [], 0.0, set()
    for file in weight_files(Path(job.job.output)):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 it is no mapping
                present.add(name)
                report(min(len(present) / max(len(names), 1), 1.0))
                error = _error(tensors.get_tensor(name), expected(name), dtype)
                largest = max(largest, error)
                if not error <= 1.0:
                    wrong.append(name)
    wrong += sorted(names - present)
    return WeightCheck(tensors=len(present), wrong=wrong, wrong_count=len(wrong), largest_error=min(largest, 1e9))


def _error(tensor: torch.Tensor, expected: torch.Tensor, dtype: torch.dtype) -> float:
    """The largest error, in units of the bound; infinite for another shape or dtype, or a number that is none."""
    if tensor.dtype != dtype or tensor.shape != expected.shape:
        return math.inf
    if not tensor.numel():
        return 0.0
    _mantissa, exponent = torch.frexp(expected)  # |E| = mantissa · 2^exponent, mantissa from ½ to 1
    half_ulp = (torch.finfo(dtype).eps / 4 * torch.exp2(exponent.double())).masked_fill(expected == 0, 0.0)
    bound = half_ulp + SUM_ERROR * expected.abs().max() + torch.finfo(torch.float32).tiny
    error = ((tensor.double() - expected).abs() / bound).max().item()
    return math.inf if math.isnan(error) else error


def expectation(job: ExportJob) -> Expectation:
    """The names that the export must have, and their values. transformers stores some tensors under other names than
    the model has (ViT's)."""
    expected, model = _expectation(job)
    inside = {_stored_name(model, name): name for name in expected.names}
    before = expected.before
    return Expectation(
        set(inside),
        lambda name: expected.value(inside[name]),
        None if before is None else lambda name: before(inside[name]),
    )


def _stored_name(model: Any, name: str) -> str:
    """The name of a tensor in files, as `save_pretrained` writes it."""
    renamed: dict[str, Any] = revert_weight_conversion(model, {name: torch.empty(0, device="meta")})
    return next(iter(renamed)) if len(renamed) == 1 else name


def _expectation(job: ExportJob) -> tuple[Expectation, nn.Module]:
    """By the names of the model, which comes too."""
    if job.whole:
        model: nn.Module = whole_model(job.job, job.weights, torch.float32)
        return Expectation(_names(model), lambda name: _value(model, name), None), model
    base, _tokenizer = base_model(job.job, torch.float32)
    names = _names(base)
    if not (Path(job.weights) / "adapter_config.json").is_file():
        untrained = {name: tensor.detach().clone() for name, tensor in base.state_dict().items()}
        selected = attach(base, job.job, job.weights)
        return Expectation(names, lambda name: _value(selected, name), lambda name: untrained[name].double()), base
    adapted: Any = attach(base, job.job, job.weights)
    scale = _scale(Path(job.weights) / "adapter_config.json")
    inner = adapted.base_model.model
    return Expectation(names, lambda name: _merged(inner, name, scale), lambda name: _before(inner, name)), base


def _names(model: nn.Module) -> set[str]:
    """Names of the model's parameters; tied parameters occur once."""
    return {name for name, _ in model.named_parameters()}


def _value(model: nn.Module, name: str) -> torch.Tensor:
    values: torch.Tensor = model.state_dict()[name]
    return values.detach().double()


def _before(model: nn.Module, name: str) -> torch.Tensor:
    """A tensor as it was before training."""
    module, leaf = _module(model, name)
    layer: Any = module.original_module if isinstance(module, ModulesToSaveWrapper) else module
    values: torch.Tensor = getattr(layer.get_base_layer() if isinstance(layer, BaseTunerLayer) else layer, leaf)
    return values.detach().double()


def _module(model: nn.Module, name: str) -> tuple[Any, str]:
    """The module that has a tensor, and the tensor's name there."""
    path, _dot, leaf = name.rpartition(".")
    module: Any = model
    for part in path.split(".") if path else ():
        module = getattr(_trained(module), part)
    return module, leaf


def _merged(model: nn.Module, name: str, scale: float | None) -> torch.Tensor:
    """A tensor of the merged model, from the unmerged one."""
    module, leaf = _module(model, name)
    layer: Any = _trained(module)
    if not isinstance(layer, BaseTunerLayer):
        values: torch.Tensor = getattr(layer, leaf)
        return values.detach().double()
    if scale is not None and isinstance(layer, LoraLayer) and not layer.lora_variant:
        lora: Any = layer
        before: torch.Tensor = getattr(lora.base_layer, leaf).detach().double()
        if leaf != "weight":
            return before
        a, b = (part["default"].weight.detach().double() for part in (lora.lora_A, lora.lora_B))
        delta: torch.Tensor = scale * (b @ a)
        return before + (delta.T if lora.fan_in_fan_out else delta)
    merged: Any = copy.deepcopy(module).double().eval()
    merged.merge()
    result: torch.Tensor = getattr(merged.get_base_layer(), leaf)
    return result.detach()


def _trained(module: Any) -> Any:
    """The copy that trained, where PEFT keeps one beside the original."""
    return module.modules_to_save["default"] if isinstance(module, ModulesToSaveWrapper) else module


def _scale(file: Path) -> float | None:
    """s of a LoRA adapter: lora_alpha / r, or / √r for rsLoRA. None for another method, or ranks that differ."""
    config = json.loads(file.read_bytes())
    if config.get("peft_type") != "LORA" or config.get("rank_pattern") or config.get("alpha_pattern"):
        return None
    return float(config["lora_alpha"] / (math.sqrt(config["r"]) if config.get("use_rslora") else config["r"]))
