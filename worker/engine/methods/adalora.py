"""AdaLoRA's rank schedule: which directions of which layers are pruned, and when (Zhang et al. 2023, arXiv 2303.10512).

PEFT's tuner scores and prunes; this companion gives it the number of steps, takes its regularization out of the model's
own loss, and stores its state in checkpoints.
"""

from typing import Any

import torch

from app.domain.methods.lowrank import AdaLoraSpec

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
