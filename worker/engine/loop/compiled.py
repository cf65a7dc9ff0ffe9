"""Regional compilation: torch.compile for the transformer blocks of a model, which are alike, and for nothing else.

    embeddings → block → block → … → head        one compiled function serves every block of a class
                 └ compiled, in training ┘

Inside `computing` each block's `forward` is the compiled one; outside the model is the plain one. So evaluations,
generation and the recorded steps compute as ever, and neither names nor files of weights know of it.

Sizes are symbols from the start (`dynamic=True`), and two equal sizes are not taken for one, so a batch of other rows
or another length needs no compilation of its own. What does: a mask or none, a first block whose input needs no
gradient, blocks of unlike structure. Random numbers are torch's own, so dropout is that of the plain path. A block
that torch cannot take as a whole is refused, not compiled in parts.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from app.domain.errors import first_line
from app.domain.failures import FailureCode, RunFailed
from app.domain.messages import _
from worker.engine.loop.clocks import Stopwatch
from worker.engine.loop.progress import Instruments
from worker.engine.models.architecture import block_names

MOST_VARIANTS = 32
"""Compilations of one block's code at most; torch counts them for each class."""
_DYNAMO, _SHAPES, _INDUCTOR = "torch._dynamo", "torch.fx.experimental._config", "torch._inductor.config"
_CACHES = {"TORCHINDUCTOR_CACHE_DIR": "inductor", "TRITON_CACHE_DIR": "triton"}


def keep_caches_in(folder: Path) -> None:
    """Write compiled code to a folder of this installation, not to one in /tmp that every user of the machine knows;
    unless the environment says where."""
    for variable, name in _CACHES.items():
        os.environ.setdefault(variable, str(folder / name))


class CompiledBlocks:
    """The compiled blocks of a model; inactive outside `computing`."""

    def __init__(self, model: nn.Module, instruments: Instruments, backend: str = "inductor") -> None:
        """`backend`: of torch.compile; `aot_eager` traces as inductor does, and needs no compiler."""
        self._blocks = [model.get_submodule(name) for name in block_names(model)]
        self._instruments = instruments
        own = {type(block): _forward_of(type(block)) for block in self._blocks}
        options: dict[str, Any] = {"dynamic": True, "fullgraph": True, "backend": backend}
        self._compiled = {kind: torch.compile(forward, **options) for kind, forward in own.items()}
        self.compiled_in_step = False
        """Something was compiled in the latest step."""

    @contextmanager
    def computing(self) -> Iterator[None]:
        """The forward and backward passes of a step, with compiled blocks. Compiling has a clock of its own, and the
        rest of its step is booked like a step whose memory is recorded.

        Raises `RunFailed(bad_configuration)` if torch cannot compile a block.
        """
        dynamo, inductor = import_module(_DYNAMO), import_module(_INDUCTOR)
        handler = import_module(f"{_DYNAMO}.callback").callback_handler
        clocks, memory = self._instruments.clocks, self._instruments.memory
        before: list[Any] = []
        self.compiled_in_step = False

        def begins(_why: object) -> None:
            self.compiled_in_step = True
            before.extend((clocks.running, memory.held()))
            clocks.aside(True)
            clocks.enter("compile")

        def ends(_why: object) -> None:
            memory.leave_out(before.pop())
            clocks.enter(before.pop())

        for block in self._blocks:
            vars(block)["forward"] = partial(self._forward, block)
        handler.register_start_callback(begins)
        handler.register_end_callback(ends)
        try:
            with (
                dynamo.config.patch(recompile_limit=MOST_VARIANTS),
                inductor.patch(fallback_random=True),
                import_module(_SHAPES).patch(use_duck_shape=False),
            ):
                yield
        except (dynamo.exc.TorchDynamoException, dynamo.exc.FailOnRecompileLimitHit) as error:
            raise _refused(error) from error
        finally:
            handler.remove_start_callback(begins)
            handler.remove_end_callback(ends)
            for block in self._blocks:
                with suppress(KeyError):
                    del vars(block)["forward"]

    def _forward(self, block: nn.Module, *args: Any, **options: Any) -> Any:
        """As transformers' `GradientCheckpointingLayer` does: what is compiled lies within what is recomputed."""
        compiled: Callable[..., Any] = self._compiled[type(block)]
        recomputed = getattr(block, "gradient_checkpointing", False) and block.training and torch.is_grad_enabled()
        if not recomputed:
            return compiled(block, *args, **options)
        checkpoint: Callable[..., Any] = block._gradient_checkpointing_func  # type: ignore[assignment]
        return checkpoint(partial(compiled, block, **options), *args)


def _forward_of(kind: type[nn.Module]) -> Callable[..., Any]:
    """A class's `forward`, without what transformers puts around it to recompute it."""
    forward: Callable[..., Any] = kind.forward
    return getattr(forward, "__wrapped__", forward) if issubclass(kind, GradientCheckpointingLayer) else forward


def try_compiler(device: torch.device, clocks: Stopwatch) -> None:
    """Compile a sum, by its own clock: it takes seconds the first time and loads what compiling needs.

    Raises `RunFailed(bad_configuration)` if this worker cannot compile.
    """
    before = clocks.running
    clocks.enter("compile")
    import_module(_DYNAMO)
    compiled = torch.compile(lambda x: x.sin() + 1, dynamic=True)
    try:
        compiled(torch.ones(3, device=device))
    except Exception as error:  # a compiler may fail in any way
        why = first_line(error)
        text = _(
            "training.compile_blocks: this worker cannot compile (%(why)s). Install a C++ compiler (g++), for a GPU "
            "also triton, or set it to false.",
            why=why,
        )
        raise RunFailed(FailureCode.BAD_CONFIGURATION, text) from error
    clocks.enter(before)


def _refused(error: Exception) -> RunFailed:
    text = _(
        "training.compile_blocks: torch.compile does not support the blocks of this model with this method (%(why)s). "
        "Set it to false.",
        why=first_line(error),
    )
    return RunFailed(FailureCode.BAD_CONFIGURATION, text)
