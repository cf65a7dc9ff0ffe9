"""Dropout (Srivastava et al. 2014, JMLR 15) for training on a CPU, where the random numbers cost more than the
arithmetic.

    y = x · m / (1 − p)      m is 0 with probability p, else 1

torch draws one random number per element. Here one draw of 64 bits serves four elements: an element is kept if its 16
bits, as a signed integer, are at least a threshold. So p is rounded to a multiple of 1/65536, and the scaling factor
uses the rounded p, which keeps the mean exact. The factor is applied to the product x · m, where torch rounds once: a
mask that holds it would round it to 1.1094 for p = 0.1 in bfloat16, and lose 0.15 % of every mean. The bits come from
torch's own generator, so seeds and checkpoints apply.
"""

import torch
from torch import nn

_LEVELS = 2**16


def drop(x: torch.Tensor, p: float) -> torch.Tensor:
    """x · m / (1 − p), on the CPU."""
    dropped = round(p * _LEVELS)
    return (x * _kept(x, dropped)).mul_(_LEVELS / (_LEVELS - dropped))


def _kept(x: torch.Tensor, dropped: int) -> torch.Tensor:
    """m, of the shape and dtype of x; the draws are freed before it is used."""
    # torch.compile cannot trace the draws: in a graph they are one operation.
    return _kept_in_graph(x.detach(), dropped) if torch.compiler.is_compiling() else _draw(x, dropped)


def _draw(x: torch.Tensor, dropped: int) -> torch.Tensor:
    draws = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    decisions = draws.view(torch.int16)[: x.numel()].view(x.shape) >= dropped - _LEVELS // 2
    return decisions.to(x.dtype)


# Its argument is x itself and not the shape: torch takes two operations with equal arguments for one.
_kept_in_graph = torch.library.custom_op(
    "vezna::kept", _draw, mutates_args=(), tags=(torch.Tag.nondeterministic_seeded,)
)
_kept_in_graph.register_fake(lambda x, dropped: torch.empty_like(x, memory_format=torch.contiguous_format))


class Dropout(nn.Dropout):
    """`nn.Dropout` with the draws above."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """[…] to the same shape; unchanged in evaluation mode."""
        if not self.training or not 0 < self.p < 1:
            return super().forward(input)
        return drop(input, self.p)


def disable_dropout(model: nn.Module) -> None:
    """For good: in modules, and in attention and functions, which read a number of their module by this name."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():
            if isinstance(value, float) and "dropout" in name:
                setattr(module, name, 0.0)
