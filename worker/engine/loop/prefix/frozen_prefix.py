"""The frozen prefix: the blocks below everything that trains give a row the same activations in every epoch, so they
are computed once per row and read back (AutoFreeze, Liu et al. 2021, arXiv 2102.01386).

    h_k = block_k(… block_1(embeddings(x)))          nothing in block_1 … block_k, nor in their inputs, trains
    loss = head(block_L(… block_{k+1}(h_k)))         some parameter here trains

With F the forward FLOPs of a block and t = L − k, a step costs (L + 2t)·F if all weights of the upper blocks train: the
backward pass has two products for each forward one, the gradients of input and weight. LoRA omits the weight gradient
of the base model: (L + t)·F. With cached activations the same steps cost 3t·F and 2t·F.

The prefix runs without dropout whether it is cached or not (`Prefix.train_mode`), so both have the same loss. In
float32 they differ by rounding alone: a row in a batch of another shape uses other matrix kernels.

No architecture is named here. `frozen_prefix` probes the model with a few tokens: autograd shows which weights feed a
block, and the model must return the same output when it is fed its earlier activations. Otherwise the prefix is empty
and every block is computed.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from worker.engine.data.images import shape_in
from worker.engine.loop.prefix.activations import Activations, NotCached, PrefixCache
from worker.engine.models.architecture import block_names
from worker.engine.models.precision import alike

Batches = Iterable[tuple[Sequence[int], Mapping[str, torch.Tensor]]]
"""Indices of B rows, and the model's arguments for them, with `input_ids` and `attention_mask` [B, T], or images."""


class _Reached(Exception):
    """Raised to end a forward pass at the prefix's end."""

    def __init__(self, hidden: torch.Tensor) -> None:
        self.hidden = hidden


class Feed:
    """The activations [B, T, H] for the next forward pass only."""

    def __init__(self) -> None:
        self._hidden: torch.Tensor | None = None

    def __call__(self, hidden: torch.Tensor) -> None:
        """Set them, on the model's device."""
        self._hidden = hidden

    def look(self) -> torch.Tensor:
        """Return them. Raises `RuntimeError` if none were set since the last forward pass."""
        if self._hidden is None:
            raise RuntimeError(
                "The frozen prefix has no activations: feed those of each batch before its forward pass."
            )
        return self._hidden

    def take(self) -> torch.Tensor:
        """Return them and forget them."""
        hidden, self._hidden = self.look(), None
        return hidden


@dataclass(frozen=True, eq=False)
class Prefix:
    """The frozen part at the bottom of a model; empty (`depth` 0) if no part can be stored."""

    model: nn.Module
    blocks: tuple[nn.Module, ...] = ()
    """The leading blocks in which nothing trains."""
    around: tuple[nn.Module, ...] = ()
    """The other modules that run before the last of them ends: the embeddings."""
    entry: nn.Module | None = None
    """The module whose output is the first block's input, if skipping it changes nothing."""
    outputs: int = 0
    """A block returns a tuple of this many values, the activations first; 0: the tensor itself."""

    @property
    def depth(self) -> int:
        return len(self.blocks)

    def train_mode(self) -> None:
        """`model.train()` for everything but the prefix, which stays in evaluation mode."""
        self.model.train()
        for module in (*self.around, *self.blocks):
            module.eval()

    def activations(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The output of the last frozen block, [B, T, H]; the rest of the model does not run."""

        def reached(module: nn.Module, args: object, output: Any) -> None:
            raise _Reached(_first(output))

        hook = self.blocks[-1].register_forward_hook(reached)
        try:
            self.model(**inputs)
        except _Reached as end:
            return end.hidden
        finally:
            hook.remove()
        raise RuntimeError("The model's forward pass did not reach the end of its frozen prefix.")

    def fill(self, cache: PrefixCache, batches: Batches, rows: int, tokens: int) -> Activations:
        """Compute and store the activations of all `rows` rows, with `tokens` tokens in total.

        Pass the rows sorted by length, to save padding, and call it under training's autocast. Leaves the model in
        evaluation mode. Raises `NotCached` if they do not fit.
        """
        self.model.eval()
        with cache.writing(rows, tokens) as writer, torch.no_grad():
            for indices, inputs in batches:
                hidden = self.activations(inputs)
                mask = inputs.get("attention_mask")
                writer.add(indices, hidden, torch.ones(hidden.shape[:2]) if mask is None else mask)
        activations = cache.open()
        if activations is None:
            raise NotCached("Activations were written and could not be read back: is the disk sound?")
        return activations

    @contextmanager
    def fed(self) -> Iterator[Feed]:
        """Inside, the prefix returns the activations that were set instead of computing them.

        Everything else is the model's own code, including its masks and position embeddings. Only the modules'
        `forward` is replaced, on the instance, so hooks and the attributes that the model reads from a block stay.
        """
        feed, others = Feed(), (None,) * (self.outputs - 1)

        def returning(get: Callable[[], torch.Tensor]) -> Callable[..., Any]:
            return lambda *args, **kwargs: (get(), *others) if self.outputs else get()

        instead = {block: returning(feed.look) for block in self.blocks[:-1]}
        instead |= {block: returning(feed.take) for block in self.blocks[-1:]}
        if self.entry is not None:
            instead[self.entry] = lambda *args, **kwargs: feed.look()
        own = {module: vars(module).get("forward") for module in instead}
        for module, forward in instead.items():
            vars(module)["forward"] = forward
        try:
            yield feed
        finally:
            for module, before in own.items():
                del vars(module)["forward"]
                if before is not None:
                    vars(module)["forward"] = before


def frozen_prefix(model: nn.Module, *, bf16: bool = False, log: Callable[[str], None] | None = None) -> Prefix:
    """The longest prefix that can be stored, given which parameters require a gradient. Does not change the model.

    `bf16`: training computes in bfloat16. `log` receives the reason why a model with frozen blocks trains without a
    prefix.

    Costs a few forward passes over six tokens. Assumes rows padded on the right. Padded on the left, a model with
    absolute positions needs `position_ids` in its batches, or a row's activations depend on the other rows of its
    batch.
    """
    blocks, config = [model.get_submodule(name) for name in block_names(model)], getattr(model, "config", None)
    # An encoder-decoder has two lists, and T5's first block computes position biases for all; layerdrop skips blocks at
    # random; BigBird permanently disables sparse attention when it sees a short text, so it must not be probed.
    sparse = getattr(config, "attention_type", "") == "block_sparse"
    if all(p.requires_grad for p in model.parameters()):
        return Prefix(model)
    if not blocks or sparse or any(getattr(config, name, False) for name in ("is_encoder_decoder", "layerdrop")):
        return Prefix(model)
    device = next(model.parameters()).device
    modes = [(module, module.training) for module in model.modules()]
    try:
        with (
            torch.random.fork_rng([device] if device.type == "cuda" else []),
            torch.inference_mode(False),
            torch.autocast(device.type, torch.bfloat16, enabled=bf16),
        ):
            return _probe(model, blocks, device, torch.bfloat16 if bf16 else torch.float32)
    except MemoryError:
        raise
    except Exception as error:  # an unusual architecture may raise anything when it is fed: it trains without a prefix
        if log is not None:
            reason = f"{type(error).__name__}: {error}".split("\n")[0]
            log(f"Frozen blocks, if there are any, are computed every time: the model could not be probed ({reason}).")
        return Prefix(model)
    finally:
        for module, training in modes:
            module.training = training


def _two_rows(model: nn.Module, device: torch.device) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Arguments of a model for two rows, a text of three tokens and one of two, or images; and for the second alone."""
    config: Any = model.config
    if getattr(model, "main_input_name", "") == "pixel_values":
        images = torch.rand((2, *shape_in(config)), device=device)
        return {"pixel_values": images}, {"pixel_values": images[1:]}
    pad = getattr(config, "pad_token_id", None)
    words = [token for token in range(4) if token != pad][:3]
    ids = torch.tensor([words, [*words[:2], pad or 0]], device=device)
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]], device=device)
    return {"input_ids": ids, "attention_mask": mask}, {"input_ids": ids[1:, :2], "attention_mask": mask[1:, :2]}


def _probe(model: nn.Module, blocks: Sequence[nn.Module], device: torch.device, compute: torch.dtype) -> Prefix:
    """Run the model on two rows, and determine what can be stored."""
    inputs, second = _two_rows(model, device)
    model.eval()
    with _Watch(model, blocks) as watch, torch.enable_grad():
        answer = _first(model(**inputs)).detach()
    depth = watch.frozen({id(p) for p in model.parameters() if p.requires_grad})
    if depth == 0:
        return Prefix(model)
    output = watch.outputs[depth - 1]
    stored, size = _first(output).detach(), 0 if isinstance(output, torch.Tensor) else len(output)
    mask = inputs.get("attention_mask", torch.ones(stored.shape[:2], device=device))
    real = mask.bool()
    around = tuple(module for module, ended in watch.called.items() if ended < depth)
    prefix = Prefix(model, tuple(blocks[:depth]), around, watch.entry, size)
    with torch.no_grad():
        alone = prefix.activations(second)
        prefix.train_mode()
        training = prefix.activations(inputs)
        model.eval()
        if not (alike(alone[0], stored[1][real[1]], compute) and alike(training[real], stored[real], compute)):
            return Prefix(model)
        for candidate in (prefix, replace(prefix, entry=None)):
            with candidate.fed() as feed:
                feed(stored * mask.unsqueeze(-1))
                again = _first(model(**inputs))
            by_token = answer.ndim == 3
            if alike(again[real], answer[real], compute) if by_token else alike(again, answer, compute):
                return candidate
    return Prefix(model)


class _Watch(ExitStack):
    """Records which modules a forward pass calls, and when."""

    def __init__(self, model: nn.Module, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.outputs: list[Any] = []
        """Calls of the blocks, in order."""
        self.called: dict[nn.Module, int] = {}
        """Outermost modules without a block: how many blocks had ended when each was first called."""
        self._input: object = None
        self._results: list[tuple[nn.Module, object]] = []
        inside = set(blocks)
        holders = {module for module in model.modules() if not inside.isdisjoint(module.modules())} - inside
        for block in blocks:
            self._keep(block.register_forward_pre_hook(self._begins, with_kwargs=True))
            self._keep(block.register_forward_hook(self._ends))
        for module in {child for holder in holders for child in holder.children()} - holders - inside:
            self._watch(module)

    def _keep(self, handle: torch.utils.hooks.RemovableHandle) -> None:
        self.callback(handle.remove)

    def _begins(self, block: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        if self._input is None:
            self._input = args[0] if args else kwargs.get("hidden_states")

    def _ends(self, block: nn.Module, args: object, output: object) -> None:
        self.outputs.append(output)

    def _watch(self, outer: nn.Module) -> None:
        def called(module: nn.Module, args: object) -> None:
            self.called.setdefault(outer, len(self.outputs))

        def ended(module: nn.Module, args: object, output: object) -> None:
            self._results.append((outer, output))

        for module in outer.modules():  # a container such as a ModuleDict is never called itself
            self._keep(module.register_forward_pre_hook(called))
        self._keep(outer.register_forward_hook(ended))

    @property
    def entry(self) -> nn.Module | None:
        """The module whose output was the first block's input."""
        return next((module for module, output in self._results if output is self._input), None)

    def frozen(self, trainable: set[int]) -> int:
        """The number of leading calls whose output does not depend on these parameters (by `id`), by autograd's
        graph."""
        visited: set[object] = set()
        for depth, output in enumerate(self.outputs):
            todo = [_first(output).grad_fn]
            while todo:
                node = todo.pop()
                # Leaves have a variable; one that is no parameter comes from `enable_input_require_grads`.
                if id(getattr(node, "variable", None)) in trainable:
                    return depth
                if node is not None and node not in visited:
                    visited.add(node)
                    todo += [before for before, _ in node.next_functions]
        return len(self.outputs)


def _first(output: Any) -> torch.Tensor:
    """A block's activations or a model's output: the output itself or its first element."""
    first = output if isinstance(output, torch.Tensor) else output[0]
    assert isinstance(first, torch.Tensor)  # noqa: S101 — else nothing can be stored, and `frozen_prefix` says so
    return first
