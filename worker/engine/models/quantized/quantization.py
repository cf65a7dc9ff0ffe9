"""A base model whose linear layers are quantized to four bits, by bitsandbytes (Dettmers et al. 2023, arXiv
2305.14314).

    W [out, in]  ->  out·in / 2 bytes, each two indices into the sixteen values of NF4
                     a scale for each block of 64, in 8 bits; a float32 scale for each 256 of those

bitsandbytes changes frozen tensors on first use: it casts biases to the compute dtype in place, and on a CPU with
native bfloat16 it reorders the bytes of W for evaluation. Both would look like frozen weights that train. So biases are
cast at once, and the reordering is disabled: evaluation uses the kernels of training.
"""

import importlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import BitsAndBytesConfig, PreTrainedModel

from app.domain.errors import first_line
from app.domain.failures import FailureCode, RunFailed
from app.domain.messages import Message, _

_BLOCK = 64
"""Weights per scale."""
_MOST_OFF = 0.12
"""Accepted relative error; for normally distributed weights NF4 has 0.092."""


@dataclass(frozen=True)
class NF4:
    """Quantizes linear layers to NF4 on `device`, and computes with them in `compute`."""

    compute: torch.dtype
    device: torch.device

    def options(self, widths: Iterable[int], plain: list[str]) -> dict[str, Any]:
        """Arguments of `from_pretrained`; linear layers whose names match a pattern in `plain` are not quantized.

        `widths` are the input dimensions of the others: each is tested first. Raises `RunFailed(bad_configuration)` if
        bitsandbytes is absent or does not work on the device.
        """
        self._try(sorted(set(widths)))
        config = BitsAndBytesConfig(  # type: ignore[no-untyped-call]
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=self.compute,
            llm_int8_skip_modules=plain,
        )
        return {"quantization_config": config, "device_map": {"": str(self.device)}}

    def settle(self, model: PreTrainedModel) -> None:
        """Apply at once what bitsandbytes would otherwise change during training.

        Raises `RunFailed(bad_configuration)` if no layer of the model is quantized.
        """
        quantized: list[Any] = [m for m in model.modules() if is_packed(getattr(m, "weight", None))]
        for module in quantized:
            module.compute_dtype, module.compute_type_is_set = self.compute, True
            module.support_avx512bf16_for_cpu = False
            if module.bias is not None:
                module.bias.data = module.bias.data.to(self.compute)
            # Its output has the dtype of its input: without this, activations under autocast would be float32.
            module.register_forward_pre_hook(_in_compute_type)
        if not quantized:
            name = type(model).__name__
            text = _("No linear layer of %(name)s can be quantized to four bits. Choose LoRA.", name=name)
            raise RunFailed(FailureCode.BAD_CONFIGURATION, text)

    def _try(self, widths: Sequence[int]) -> None:
        """Quantize and dequantize random matrices. Some versions dequantize rows that are not a multiple of the block
        size wrongly on a CPU."""
        reason: Message | None = None
        try:
            functional = importlib.import_module("bitsandbytes").functional
            for width in widths:
                matrix = torch.randn(_BLOCK, width, generator=torch.Generator().manual_seed(0)).to(self.device)
                packed, state = functional.quantize_4bit(matrix, quant_type="nf4", compress_statistics=True)
                off = (functional.dequantize_4bit(packed, state) - matrix).norm() / matrix.norm()
                if not off < _MOST_OFF:
                    values = {"device": self.device.type, "width": width}
                    reason = _("it gives wrong numbers on this %(device)s for layers with %(width)s inputs", **values)
        except ImportError:
            reason = _("it is not installed on this worker (vezna[qlora])")
        except Exception as error:  # a library without a kernel for the device may raise anything
            reason = Message(first_line(error))
        if reason:
            text = _(
                "QLoRA needs bitsandbytes for weights in four bits, but %(reason)s. Choose LoRA, or another worker.",
                reason=reason,
            )
            raise RunFailed(FailureCode.BAD_CONFIGURATION, text)


def _in_compute_type(module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    x, *others = arguments
    return (x.to(module.compute_dtype), *others)


def is_packed(parameter: object) -> bool:
    """Whether a parameter is quantized to four bits."""
    return getattr(parameter, "quant_state", None) is not None


def shape(parameter: torch.Tensor) -> tuple[int, ...]:
    """A parameter's shape; for a quantized one, the original shape."""
    return tuple(parameter.quant_state.shape if is_packed(parameter) else parameter.shape)  # type: ignore[attr-defined]


def unpacked(parameter: torch.Tensor) -> torch.Tensor:
    """The parameter itself; a quantized one is dequantized."""
    if not is_packed(parameter):
        return parameter
    functional = importlib.import_module("bitsandbytes").functional
    numbers: torch.Tensor = functional.dequantize_4bit(parameter.data, parameter.quant_state)  # type: ignore[attr-defined]
    return numbers


def stored(parameter: torch.Tensor) -> list[torch.Tensor]:
    """The tensors that store a parameter: itself, or the packed bytes and their scales."""
    if not is_packed(parameter):
        return [parameter]
    state = parameter.quant_state  # type: ignore[attr-defined]
    return [parameter.data, state.absmax, state.offset, state.state2.absmax]
