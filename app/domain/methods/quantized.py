"""QLoRA: LoRA on a base model quantized to 4 bits (Dettmers et al. 2023, arXiv 2305.14314), by bitsandbytes and PEFT.

    y = dequantize(W₄)·x + (lora_alpha / r)·B·A·x        W₄ [out, in] in NF4, frozen,  A [r, in],  B [out, r]

NF4 has sixteen values, the quantiles of a normal distribution, for 64 weights at a time with the largest of them in
absolute value as their scale (section 3). The scales are quantized again, to 8 bits ("double quantization"): 4.127 bits
per weight in all. Every linear layer of the base model is quantized, except those that an architecture keeps in float32
(T5's `wo`); embeddings, norms, the head and the LM head are not. Training starts at the quantized model, which differs
slightly from the base model. The paper's paged optimizers are not used: only A and B have optimizer state.
"""

from typing import ClassVar, Literal

from app.domain.messages import _
from app.domain.methods.base import MethodFacts, Targeted
from app.domain.methods.lora import LowRank
from app.domain.runs.capabilities import Capability


class QloraSpec(LowRank, Targeted):
    """LoRA on a frozen base model in 4-bit NF4."""

    facts: ClassVar[MethodFacts] = MethodFacts(
        kind="qlora",
        family="lora",
        name=_("QLoRA"),
        summary=_("LoRA on a base model quantized to 4 bits"),
        rate_multiple=10,
        paper="Dettmers et al. 2023, arXiv 2305.14314",
        formula=_("Σ r·(in + out) over the target modules"),
    )
    peft_type: ClassVar[str] = "LORA"
    needs: ClassVar[frozenset[Capability]] = frozenset({"qlora"})
    kind: Literal["qlora"] = "qlora"
