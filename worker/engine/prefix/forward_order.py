"""What runs when in a forward pass, found out by running one on torch's `meta` device: shapes without numbers.

The order of declaration does not tell: OPT declares its final norm before its blocks, and BART's decoder one that runs
before them after them.
"""

import copy
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import PreTrainedModel

_TOKENS = 4


class _Yes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Answers every question for a number with 1. Models ask whether a mask is full, which nothing on `meta` knows."""

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            return 1
        return func(*args, **(kwargs or {}))


def behind_blocks(model: PreTrainedModel, blocks: Sequence[str]) -> list[str] | None:
    """Names of the modules that run for the first time when the last block has run for the last time. Nothing of the
    model runs: a twin of it does.

    None if the twin does not come so far. What fails behind the blocks does no harm: BART's head picks rows by tokens
    that are there, which is no shape.
    """
    if not blocks:
        return None
    try:
        with torch.device("meta"):
            twin: Any = type(model)(copy.deepcopy(model.config))
    except Exception:  # whatever an architecture raises on meta
        return None
    called: dict[str, None] = {}
    ended: list[int] = []
    with ExitStack() as hooks, torch.no_grad(), torch.random.fork_rng([]):
        for name, module in twin.named_modules():
            hooks.enter_context(module.register_forward_pre_hook(_noting(name, called)))
        last = twin.get_submodule(blocks[-1])
        hooks.enter_context(last.register_forward_hook(lambda *_: ended.append(len(called))))
        with suppress(Exception), _Yes():  # type: ignore[no-untyped-call]
            # Whatever it raises, `ended` says how far it came.
            twin.eval()(**_inputs(twin))
    if not ended:
        return None
    return list(called)[ended[-1] :]


def _noting(name: str, called: dict[str, None]) -> Any:
    def note(module: nn.Module, arguments: object) -> None:
        called.setdefault(name)

    return note


def _inputs(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    ids = torch.zeros((1, _TOKENS), dtype=torch.int64, device="meta")
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    return inputs | ({"decoder_input_ids": ids} if model.config.is_encoder_decoder else {})
