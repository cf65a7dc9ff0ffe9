"""A base model whose linear layers are held in four bits, by bitsandbytes (Dettmers et al. 2023, arXiv 2305.14314).

    W [out, in]  ->  out·in / 2 bytes, each two places among NF4's sixteen values
                     a scale for 64 of them, in 8 bits; a scale in float32 for 256 of those

bitsandbytes changes what is frozen when it is first used: biases become the compute type in place, and on a CPU with
bfloat16 arithmetic the bytes of W are put in another order for evaluation and stay in it. Both would look like frozen
weights that train. So biases get their type at once, and the other order is never taken: an evaluation uses the
arithmetic of training.
"""

import importlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import BitsAndBytesConfig, PreTrainedModel

from app.domain.failures import FailureCode, RunFailed

_BLOCK = 64
"""Weights that share a scale."""
_MOST_OFF = 0.12
"""Relative error that is taken for right; of normal numbers in NF4 it is 0.092."""


@dataclass(frozen=True)
class NF4:
    """Hold linear layers in NF4 on `device`, and compute with them in `compute`."""

    compute: torch.dtype
    device: torch.device

    def options(self, widths: Iterable[int], plain: list[str]) -> dict[str, Any]:
        """Arguments of `from_pretrained`; linear layers whose names match a pattern in `plain` stay as they are.

        `widths` are the numbers of inputs of the others: each is tried first. Raises `RunFailed(bad_configuration)` if
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
        """Fix what bitsandbytes would otherwise change during training.

        Raises `RunFailed(bad_configuration)` if nothing of the model is held in four bits.
        """
        held: list[Any] = [m for m in model.modules() if is_packed(getattr(m, "weight", None))]
        for module in held:
            module.compute_dtype, module.compute_type_is_set = self.compute, True
            module.support_avx512bf16_for_cpu = False
            if module.bias is not None:
                module.bias.data = module.bias.data.to(self.compute)
            # Its output has the type of its input: without this, activations under autocast would be float32.
            module.register_forward_pre_hook(_in_compute_type)
        if not held:
            what = f"No linear layer of {type(model).__name__} can be quantized to four bits. Choose LoRA."
            raise RunFailed(FailureCode.BAD_CONFIGURATION, what)

    def _try(self, widths: Sequence[int]) -> None:
        """Pack random matrices and unpack them. Some versions unpack rows that are no whole blocks wrongly on a CPU."""
        reason = None
        try:
            functional = importlib.import_module("bitsandbytes").functional
            for width in widths:
                matrix = torch.randn(_BLOCK, width, generator=torch.Generator().manual_seed(0)).to(self.device)
                packed, state = functional.quantize_4bit(matrix, quant_type="nf4", compress_statistics=True)
                off = (functional.dequantize_4bit(packed, state) - matrix).norm() / matrix.norm()
                if not off < _MOST_OFF:
                    reason = f"it gives wrong numbers on this {self.device.type} for layers with {width} inputs"
        except ImportError:
            reason = "it is not installed on this worker (vezna[qlora])"
        except Exception as error:  # whatever a library says that finds no kernel for the device
            reason = str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__
        if reason:
            what = f"QLoRA needs bitsandbytes for weights in four bits, but {reason}. Choose LoRA, or another worker."
            raise RunFailed(FailureCode.BAD_CONFIGURATION, what)


def _in_compute_type(module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    x, *rest = arguments
    return (x.to(module.compute_dtype), *rest)


def is_packed(parameter: object) -> bool:
    """Whether a parameter is held in four bits."""
    return getattr(parameter, "quant_state", None) is not None


def shape(parameter: torch.Tensor) -> tuple[int, ...]:
    """A parameter's shape; of a packed one, the shape that it had."""
    return tuple(parameter.quant_state.shape if is_packed(parameter) else parameter.shape)  # type: ignore[attr-defined]


def unpacked(parameter: torch.Tensor) -> torch.Tensor:
    """A parameter itself; of a packed one, the numbers that it stands for."""
    if not is_packed(parameter):
        return parameter
    functional = importlib.import_module("bitsandbytes").functional
    numbers: torch.Tensor = functional.dequantize_4bit(parameter.data, parameter.quant_state)  # type: ignore[attr-defined]
    return numbers


def stored(parameter: torch.Tensor) -> list[torch.Tensor]:
    """The tensors in which a parameter is held: itself; of a packed one, its bytes and their scales."""
    if not is_packed(parameter):
        return [parameter]
    state = parameter.quant_state  # type: ignore[attr-defined]
    return [parameter.data, state.absmax, state.offset, state.state2.absmax]
