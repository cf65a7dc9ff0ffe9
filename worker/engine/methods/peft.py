"""Every method that PEFT implements: its file in `app.domain.methods` gives the PEFT config and its options.

The new head trains beside the adapter, as in PEFT's `modules_to_save`: a trained copy is saved with the adapter, the
original stays in the model unused.

AdaLoRA's rank schedule: which directions of which layers are pruned, and when (Zhang et al. 2023, arXiv 2303.10512).

PEFT's tuner scores and prunes; this companion gives it the number of steps, takes its regularization out of the model's
own loss, and stores its state in checkpoints.
"""

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftConfig, PeftModel, PeftType, get_peft_model, get_peft_model_state_dict
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from torch import nn
from torch._subclasses.fake_tensor import is_fake
from transformers import PreTrainedModel

from app.domain.errors import first_line
from app.domain.failures import FailureCode, RunFailed
from app.domain.messages import _
from app.domain.methods import AdaLoraSpec, PeftMethod
from app.domain.methods.base import layer as peft_name
from app.domain.models.architecture import LinearFacts, TaskModel
from app.domain.runs.spec import RunSpec
from worker.engine.evaluation.change import Change, Product, matrix
from worker.engine.methods.tensors import sort_adapter_config
from worker.engine.methods.virtual_tokens import generate
from worker.engine.tasks import TASKS

_PATTERN = "rank_pattern|"


class RankBudget:
    """The companion of an AdaLoRA model."""

    def __init__(self, model: Any, spec: AdaLoraSpec, total_steps: int) -> None:
        self._tuner = model.base_model
        self._config = model.peft_config["default"]
        self._spec, self._total = spec, total_steps
        self._matrices = [p for name, p in model.named_parameters() if ".lora_A." in name or ".lora_B." in name]
        if self._drops:
            self._config.total_step = total_steps
            self._config.tinit, self._config.tfinal = spec.schedule(total_steps)

    @property
    def _drops(self) -> bool:
        """Whether directions are pruned: in a run of a single step, pruning would precede any gradient."""
        return self._total > 1

    def penalty(self) -> torch.Tensor:
        """orth_reg_weight · mean of ‖A·Aᵀ − I‖ and ‖Bᵀ·B − I‖ (Frobenius): of the smaller Gram matrix, [r, r]."""
        norms = []
        for p in self._matrices:
            gram = p @ p.T if p.shape[0] < p.shape[1] else p.T @ p
            norms.append(torch.linalg.matrix_norm(gram - torch.eye(len(gram), device=p.device)))
        return self._spec.orth_reg_weight * torch.stack(norms).mean()

    def after_step(self, step: int) -> None:
        """Update importances from the gradients, which are still present, and prune as scheduled."""
        if self._drops:
            self._tuner.update_and_allocate(step)

    def state(self) -> dict[str, torch.Tensor]:
        """The smoothed importance and uncertainty of every entry, and the mask of remaining directions."""
        allocator = self._tuner.rankallocator
        patterns = {f"{_PATTERN}{name}": torch.tensor(left) for name, left in (self._config.rank_pattern or {}).items()}
        smoothed = {f"{part}|{name}": t for part in _SMOOTHED for name, t in getattr(allocator, part).items()}
        return patterns | smoothed

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        allocator, device = self._tuner.rankallocator, self._matrices[0].device
        patterns: dict[str, list[bool]] = {}
        allocator.reset_ipt()
        for key, tensor in state.items():
            part, _, name = key.partition("|")
            if key.startswith(_PATTERN):
                patterns[name] = tensor.tolist()
            else:
                getattr(allocator, part)[name] = allocator.ipt[name] = tensor.to(device)
                # ipt must exist, or PEFT would reset the others; it is overwritten before use
        self._config.rank_pattern = patterns or None


_SMOOTHED = ("exp_avg_ipt", "exp_avg_unc")


def keep_ranks_still(model: Any) -> None:
    """Freeze the ranks, which the schedule sets. PEFT forgets that where it casts an adapter beside a bfloat16 layer
    (PEFT 0.21)."""
    for name, parameter in model.named_parameters():
        if ".ranknum." in name:
            parameter.requires_grad = False


def ranks_left(model: Any) -> dict[str, list[bool]]:
    """Which directions of each layer the current weights use, under PEFT's names: pruned ones have E = 0.

    The best weights may be older than the last pruning, so the schedule's own mask may not match them.
    """
    inside = model.base_model.model
    return {name: (p != 0).view(-1).tolist() for name, p in inside.named_parameters() if ".lora_E." in name}


def config(spec: PeftMethod, facts: TaskModel) -> PeftConfig:
    """PEFT's config of a method, for a model and its task."""
    options = spec.peft_options(facts) | {"task_type": TASKS[facts.task].PEFT_TYPE}
    if facts.head:
        options["modules_to_save"] = list(facts.head)
    config_class = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(spec.peft_type)]
    return config_class(**options)


def apply(model: PreTrainedModel, spec: PeftMethod, facts: TaskModel) -> PeftModel:
    """Wrap the model with PEFT. Errors quote PEFT's own message."""
    try:
        adapted: Any = get_peft_model(model, config(spec, facts))
    except (ValueError, TypeError, NotImplementedError) as error:
        reason = first_line(error)
        text = _(
            "PEFT cannot apply %(method)s to %(architecture)s: %(reason)s.",
            method=spec.label,
            architecture=facts.architecture,
            reason=reason,
        )
        raise RunFailed(FailureCode.BAD_CONFIGURATION, text) from error
    if isinstance(spec, AdaLoraSpec):
        keep_ranks_still(adapted)
    if spec.virtual_tokens:
        adapted.generate = partial(generate, adapted)
    if spec.moves_base:
        adapted.first = {name: p.detach().cpu().clone() for name, p in adapted.named_parameters() if _thin(name)}
    wrapped: PeftModel = adapted
    return wrapped


def companion(model: PeftModel, spec: PeftMethod, total_steps: int) -> RankBudget | None:
    return RankBudget(model, spec, total_steps) if isinstance(spec, AdaLoraSpec) else None


def change(model: PeftModel, spec: PeftMethod, layer: LinearFacts, base_model: Callable[[], nn.Module]) -> Change:
    """s·B·A for a plain LoRA; otherwise (DoRA's magnitude, a rotation, a Kronecker product) the difference that merging
    a float64 copy of the layer makes to W."""
    name = peft_name(layer)
    adapted: Any = model.get_submodule(name)
    before = matrix(adapted.base_layer.weight, layer.transposed)
    thin = start = None
    if spec.peft_type == "LORA":
        a, b = (part["default"].weight.detach().double() for part in (adapted.lora_A, adapted.lora_B))
        thin = Product(b * adapted.scaling["default"], a)
        start = _start(model, name, adapted.scaling["default"]) if hasattr(model, "first") else None
    if start is not None:
        before = before + start.dense
    if thin is None or adapted.lora_variant:
        merged: Any = copy.deepcopy(adapted).double().eval()
        merged.merge()
        return Change(before, matrix(merged.get_base_layer().weight, layer.transposed) - before)
    if start is not None:
        thin = Product(torch.cat([thin.b, -start.b], dim=1), torch.cat([thin.a, start.a], dim=0))
    return Change(before, thin)


def _start(model: Any, name: str, scaling: float) -> Product:
    """The part of W that PiSSA and OLoRA moved into the adapter: s·B₀·A₀."""
    b, a = (model.first[f"{name}.lora_{part}.default.weight"] for part in "BA")
    device = next(model.parameters()).device
    return Product(b.to(device).double() * scaling, a.to(device).double())


def saved_tensors(model: Any, spec: PeftMethod) -> dict[str, torch.Tensor]:
    with _as_saved(model, spec) as tensors:
        saved: dict[str, torch.Tensor] = get_peft_model_state_dict(model, tensors, save_embedding_layers=False)
    return saved


def save(model: Any, processor: Any, run: RunSpec, directory: Path) -> Path:
    """Save in PEFT's own format: `PeftModel.from_pretrained(base, folder)` loads it, with the head."""
    folder = directory / "adapter"
    assert isinstance(run.method, PeftMethod)  # noqa: S101 the mechanism is chosen by the method
    with _as_saved(model, run.method) as tensors:
        # The base model by its registered name: a directory's path would reveal this machine and be wrong on others.
        model.peft_config["default"].base_model_name_or_path = run.base_model
        # "auto" would ask the hub whether the vocabulary has grown; it cannot have.
        model.save_pretrained(str(folder), save_embedding_layers=False, state_dict=tensors)
    # PEFT's model card is an unfilled template.
    (folder / "README.md").unlink(missing_ok=True)
    sort_adapter_config(folder)
    return folder


@contextmanager
def _as_saved(model: Any, spec: PeftMethod) -> Iterator[dict[str, torch.Tensor]]:
    """The tensors to save, while the model's config describes these instead of the trained ones.

    Without values (fake tensors), the directions that AdaLoRA prunes and PiSSA's initialization are unknown, but not
    their shapes.
    """
    trained, tensors = model.peft_config["default"], model.state_dict()
    config = copy.copy(trained)
    if isinstance(spec, AdaLoraSpec):
        if any(map(is_fake, tensors.values())):
            tensors = {name: _after_drops(name, tensor, spec) for name, tensor in tensors.items()}
        else:
            config.rank_pattern = ranks_left(model)
    if spec.moves_base:
        first = getattr(model, "first", None) or {name: t for name, t in tensors.items() if _thin(name)}
        config, tensors = plain_lora(config, tensors, first)
    model.peft_config["default"] = config
    try:
        yield tensors
    finally:
        model.peft_config["default"] = trained


def _after_drops(name: str, tensor: torch.Tensor, spec: AdaLoraSpec) -> torch.Tensor:
    """The average number of directions left in each layer: of A [r, in], E [r, 1], B [out, r]."""
    for part, dimension in ((".lora_A.", 0), (".lora_E.", 0), (".lora_B.", 1)):
        if part in name:
            return tensor.narrow(dimension, 0, spec.target_r)
    return tensor


def plain_lora(
    config: LoraConfig, tensors: dict[str, torch.Tensor], first: dict[str, torch.Tensor]
) -> tuple[LoraConfig, dict[str, torch.Tensor]]:
    """Convert a LoRA that was trained on W₀ = W − s·B₀·A₀ (PiSSA, OLoRA) into one for the original base model:

            W₀ + s·B·A = W + s·[B, −B₀]·[A; A₀]        rank 2r, with lora_alpha such that s is unchanged

    PEFT's own conversion drops the head.
    """
    plain = copy.deepcopy(config)
    plain.r, plain.init_lora_weights = 2 * config.r, True
    # rsLoRA divides by √r; PEFT accepts a fractional lora_alpha.
    plain.lora_alpha = config.lora_alpha * (math.sqrt(2) if config.use_rslora else 2)  # type: ignore[assignment]
    wide = dict(tensors)
    for name, start in first.items():
        now, start = tensors[name], start.to(tensors[name].device)
        wide[name] = torch.cat([now, start], dim=0) if ".lora_A." in name else torch.cat([now, -start], dim=1)
    return plain, wide


def _thin(name: str) -> bool:
    return ".lora_A." in name or ".lora_B." in name
