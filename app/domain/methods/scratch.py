"""LoRA without PEFT, to read beside the paper (Hu et al. 2021, arXiv 2106.09685): `worker/engine/methods/scratch.py`.

    y = W·x + (lora_alpha / r)·B·A·x        W [out, in] frozen,  A [r, in],  B [out, r]

The arithmetic of `lora` and nothing else. Target modules follow the same rules, and the adapter is saved in PEFT's
format.
"""

from typing import ClassVar, Literal

from app.domain.messages import _
from app.domain.methods.base import Mechanism, MethodFacts
from app.domain.methods.lora import LowRank
from app.domain.models.architecture import TaskModel, Tensor


class LoraFromScratchSpec(LowRank):
    """LoRA in sixty lines, with the same results as PEFT's."""

    facts: ClassVar[MethodFacts] = MethodFacts(
        kind="lora-from-scratch",
        family="lora",
        name=_("LoRA from scratch"),
        summary=_("LoRA without PEFT, in code to read beside the paper"),
        rate_multiple=10,
        paper="Hu et al. 2021, arXiv 2106.09685",
        formula=_("Σ r·(in + out) over the target modules"),
    )
    mechanism: ClassVar[Mechanism] = "scratch"
    kind: Literal["lora-from-scratch"] = "lora-from-scratch"

    def defaults(self, model: TaskModel) -> list[str]:
        """As PEFT's LoRA."""
        return model.default_targets.get("lora", [])

    def trains(self, model: TaskModel) -> list[Tensor]:
        """A and B of every target module, and the head."""
        tensors = []
        for m in self.targets(model):
            group = f"A, B of {m.name.rsplit('.', 1)[-1]}"
            tensors.append(Tensor(f"{m.name}.A", (self.r, m.in_features), group))
            tensors.append(Tensor(f"{m.name}.B", (m.out_features, self.r), group))
        return tensors + self.own_head(model)
