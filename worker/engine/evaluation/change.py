"""The weight delta of one linear layer, in the form that is cheapest to analyse.

    ΔW = B·A                          of low rank r: B [out, r],  A [r, in]         LoRA and its variants
    ΔW = W_after − W_before           [out, in]                                     everything else

Each mechanism in `worker.engine.methods` returns it for its layers; `worker.engine.evaluation.weight_delta` analyses
it. In float64, since the difference of two nearly equal float32 matrices has few correct digits.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch

from worker.engine.models.quantized.quantization import unpacked


class Product(NamedTuple):
    """B·A, with the method's scaling factor in B."""

    b: torch.Tensor
    """[out, r]."""
    a: torch.Tensor
    """[r, in]."""

    @property
    def dense(self) -> torch.Tensor:
        """[out, in]."""
        return self.b @ self.a


@dataclass(frozen=True)
class Change:
    """W_before and ΔW, in float64."""

    before: torch.Tensor
    """[out, in]."""
    delta: torch.Tensor | Product

    @property
    def dense(self) -> torch.Tensor:
        """ΔW, [out, in]."""
        return self.delta.dense if isinstance(self.delta, Product) else self.delta


def matrix(weight: torch.Tensor, transposed: bool) -> torch.Tensor:
    """A layer's weight as [out, in] in float64: a copy. A four-bit weight is dequantized."""
    values = unpacked(weight).detach().to(torch.float64, copy=True)
    return values.T if transposed else values
