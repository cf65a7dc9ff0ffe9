"""Fake tensors (torch._subclasses.FakeTensorMode): a model that computes shapes and dtypes without memory.

The model is built on `meta`, with its method applied there, since PEFT cannot build under FakeTensorMode; then each
parameter and buffer is replaced by a fake tensor of a real device type. On plain `meta`, attention would select another
kernel, with other memory.

A CPU stands in for CUDA where torch has none: tensor sizes are the same, and where CUDA uses one kernel and a CPU
several, CUDA's kernel is called (`as_on_cuda`).
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Self

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry
from torch.utils.hooks import RemovableHandle
from transformers import masking_utils

from app.domain.resources.work import Work
from worker.engine.tasks import token_loss

_BLOCK, _SCALES = 64, 256
"""NF4: weights per scale, and scales per second-level scale."""


def replace_tensors(model: nn.Module, mode: FakeTensorMode) -> None:
    """Replace every tensor by a fake one; tied ones stay tied. A module's plain attributes are included."""
    replaced: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
    """The original and its fake tensor, by the original's id; it stays referenced so that no other tensor gets its
    id."""

    def fake(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in replaced:
            with mode:
                empty = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
            is_parameter = isinstance(tensor, nn.Parameter)
            new = nn.Parameter(empty, requires_grad=tensor.requires_grad) if is_parameter else empty
            replaced[id(tensor)] = (tensor, new)
        return replaced[id(tensor)][1]

    for module in model.modules():
        everything: tuple[dict[str, Any], ...] = (module._parameters, module._buffers, vars(module))
        prompts = [value for value in vars(module).values() if isinstance(value, dict)]  # PEFT's
        for attributes in (*everything, *prompts):
            for name, tensor in list(attributes.items()):
                if isinstance(tensor, torch.Tensor) and not isinstance(tensor, FakeTensor):
                    attributes[name] = fake(tensor)


class PackedLinear(nn.Linear):
    """A four-bit linear layer, with the memory of bitsandbytes' (`worker.engine.models.quantized.quantization`)."""

    def pack(self, compute: torch.dtype) -> None:
        """Replace the weight, on `meta`, by packed bytes and their scales."""
        size = self.weight.numel()
        self.unpacked, self.compute = tuple(self.weight.shape), compute
        self.weight = nn.Parameter(torch.empty(-(-size // 2), 1, dtype=torch.uint8, device="meta"), requires_grad=False)
        scales = -(-size // _BLOCK)
        self.register_buffer("scales", torch.empty(scales, dtype=torch.uint8, device="meta"))
        self.register_buffer("scales_of_scales", torch.empty(-(-scales // _SCALES), device="meta"))
        if self.bias is not None:
            self.bias.data = self.bias.data.to(compute)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """[…, in] to […, out]; the dequantized weight exists during the product."""
        x = input.to(self.compute)
        product: torch.Tensor = _PackedProduct.apply(x, self.weight, self.unpacked)  # type: ignore[no-untyped-call]
        return product if self.bias is None else product + self.bias


class _PackedProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
        ctx.shape, ctx.dtype = shape, x.dtype
        return functional.linear(x, torch.empty(shape, dtype=x.dtype))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return gradients[0] @ torch.empty(ctx.shape, dtype=ctx.dtype), None, None


def pack(model: nn.Module, names: list[str], compute: torch.dtype) -> None:
    """Quantize the linear layers of these names; where PEFT has added an adapter, the base layer, whose output is
    copied before the adapter's is added."""
    for name in names:
        layer: Any = model.get_submodule(name)
        if isinstance(layer, BaseTunerLayer):
            layer = _beside_adapter(layer)
        if type(layer) is nn.Linear:
            packed: Any = layer
            packed.__class__ = PackedLinear
            packed.pack(compute)


def _beside_adapter(adapter: Any) -> Any:
    layer = adapter.base_layer
    layer.register_forward_hook(lambda _module, _args, output: output.clone())
    return layer


class Answers(TorchDispatchMode):
    """Answers a model that asks for a tensor's value, in order to branch, with True or 1.

    LoHa asks a random number whether to skip a layer.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Other operations are unchanged."""
        if func is torch.ops.aten._local_scalar_dense.default:
            return True if args[0].dtype == torch.bool else 1
        return func(*args, **(kwargs or {}))


@contextmanager
def no_rows_side_by_side() -> Iterator[None]:
    """Without a mask, transformers checks whether positions restart within a row, as in packed rows. It cannot check a
    fake tensor and would build a mask; our packed batches have their own."""
    look = masking_utils.find_packed_sequence_indices
    masking_utils.find_packed_sequence_indices = lambda position_ids: None
    try:
        yield
    finally:
        masking_utils.find_packed_sequence_indices = look


@contextmanager
def as_on_cuda() -> Iterator[None]:
    """Use CUDA's operations for attention and dropout, and CUDA's chunk size for the loss.

    By replacing torch's functions and not by a TorchFunctionMode: such a mode is inactive within its own handler, and
    checkpointed blocks are recomputed within `backward`.
    """
    attend, drop, on_cpu = functional.scaled_dot_product_attention, functional.dropout, token_loss.PARTS["cpu"]
    functional.scaled_dot_product_attention = _attend
    functional.dropout = _drop
    token_loss.PARTS["cpu"] = token_loss.PARTS["cuda"]
    try:
        yield
    finally:
        functional.scaled_dot_product_attention, functional.dropout = attend, drop
        token_loss.PARTS["cpu"] = on_cpu


def _drop(input: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:
    return torch.ops.aten.native_dropout(input, p, True)[0] if training and p > 0 else input


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    """Flash attention in 16 bits without a mask, else the memory-efficient kernel, whose mask is floating point."""
    if attn_mask is None and query.dtype in (torch.bfloat16, torch.float16) and query.shape[-1] <= 256:
        flash = torch.ops.aten._scaled_dot_product_flash_attention
        return flash(query, key, value, dropout_p, is_causal, False, scale=scale)[0]  # type: ignore[no-any-return]
    if enable_gqa:
        groups = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    bias = attn_mask
    if bias is not None:
        if bias.dtype == torch.bool:
            bias = query.new_zeros(bias.shape).masked_fill_(bias.logical_not(), -torch.inf)
        bias = bias.expand(query.shape[0], query.shape[1], query.shape[2], key.shape[2])
    efficient = torch.ops.aten._scaled_dot_product_efficient_attention
    needs_sum = torch.is_grad_enabled() and any(t.requires_grad for t in (query, key, value))
    outputs = efficient(query, key, value, bias, needs_sum, dropout_p, is_causal, scale=scale)
    return outputs[0]  # type: ignore[no-any-return]


class Operations(TorchDispatchMode):
    """Counts the work of operations, of which a view is none. FLOPs are by the formulas of torch.utils.flop_counter:
    matrix products, convolutions and attention; a product of [m, k] and [k, n] has 2·m·k·n. Operations within `apart`
    are excluded."""

    def __init__(self, apart: Iterable[nn.Module] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.work = Work()
        self._apart, self._handles, self._within = apart, list[RemovableHandle](), 0

    def __enter__(self) -> Self:
        super().__enter__()  # type: ignore[no-untyped-call]
        for module in self._apart:
            self._handles.append(module.register_forward_pre_hook(lambda *_: self._go(1)))
            self._handles.append(module.register_forward_hook(lambda *_: self._go(-1)))
        return self

    def __exit__(self, *error: Any) -> None:
        for handle in self._handles:
            handle.remove()
        super().__exit__(*error)  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Execute the operation, and count it."""
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        free = func.is_view or func.namespace == "prim" or func._overloadpacket in _FREE
        if not self._within and not free:
            formula: Callable[..., int] | None = flop_registry.get(_known_as(func._overloadpacket))
            flops = formula(*args, **kwargs, out_val=output) if formula is not None else 0
            self.work += Work(1, _moved_bytes(func, args, kwargs, output), flops)
        return output

    def _go(self, step: int) -> None:
        self._within += step


def _moved_bytes(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> int:
    """Bytes that an operation reads and writes; of a table, the rows that it takes."""
    if func._overloadpacket in _OF_TABLES:
        return 2 * _bytes(output)
    schema, moved = func._schema, 0
    for place, declared in enumerate(schema.arguments):
        value = args[place] if place < len(args) else kwargs.get(declared.name)
        written = declared.alias_info is not None and declared.alias_info.is_write
        moved += _bytes(value) * (2 if written else 1)
    new = all(declared.alias_info is None for declared in schema.returns)
    return moved + (_bytes(output) if new else 0)


def _bytes(value: Any) -> int:
    return sum(t.numel() * t.element_size() for t in tree_leaves(value) if isinstance(t, torch.Tensor))


def _known_as(operation: Any) -> Any:
    """The CPU's attention kernel has no formula of its own; it does the same arithmetic with the same first
    arguments."""
    return _CPU_ATTENTION.get(operation, operation)


_aten = torch.ops.aten
_FREE = {_aten._unsafe_view, _aten.empty, _aten.empty_like, _aten.new_empty, _aten.empty_strided}
"""Operations that move nothing, beside views."""
_OF_TABLES = {_aten.embedding, _aten.index, _aten.index_select, _aten.gather}
_CPU_ATTENTION = {
    _aten._scaled_dot_product_flash_attention_for_cpu: _aten._scaled_dot_product_flash_attention,
    _aten._scaled_dot_product_flash_attention_for_cpu_backward: _aten._scaled_dot_product_flash_attention_backward,
}
