"""The optimizer of lean full fine-tuning: AdamW or Adafactor, on weights in float32 or bfloat16, one tensor at a time.

    w, m, v  ←  stored forms       m, v: the moments of AdamW, of Adafactor only v
    m, v, w  ←  the update in float32
    stored forms  ←  w, m, v

    float32           as it is
    8 bits            a value is absmax of its block of 256 values times one of 256 codes; the codes are dense near zero
                      (dynamic quantization, Dettmers et al. 2021, arXiv 2110.02861, section 2.2), by bitsandbytes
    bf16-stochastic   the float32 value, rounded up or down to bfloat16 at random, right on average
    bf16-kahan        two bfloat16 numbers, the weight and what its rounding cut off

Beside what is stored, only temporaries of `CHUNK` values exist (with Adafactor, whose second moments need the whole
matrix, of one tensor).
"""

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils.hooks import RemovableHandle

from app.domain.methods import LeanFullSpec

BLOCK = 256
"""Values that share an absmax."""
SMALLEST = 4096
"""Tensors with fewer values keep float32 moments, as in bitsandbytes."""
CHUNK = 1 << 22
"""Values updated at once; a multiple of `BLOCK`."""
BETAS, EPSILON = (0.9, 0.999), 1e-8
DECAY, TINY = 0.8, 1e-30
"""Adafactor's β₂ at step t is 1 − t^−0.8; squares of gradients are at least `TINY` (sections 7.2 and 4)."""
MEAN_SCALES, SQUARE_SCALES = "exp_avg_absmax", "exp_avg_sq_absmax"
ROWS, COLUMNS = "exp_avg_sq_row", "exp_avg_sq_col"
REST = "compensation"

State = dict[str, torch.Tensor]


class LeanOptimizer(torch.optim.Optimizer):
    """Updates weights as `LeanFullSpec` says. With `step_in_backward`, each as soon as its gradient is complete."""

    def __init__(
        self, groups: Iterable[dict[str, Any]], spec: LeanFullSpec, learning_rate: float, seed: int = 0
    ) -> None:
        """`groups` as torch's optimizers take them. `seed` fixes stochastic rounding, together with the step and the
        parameter, so that a resumed run rounds as an uninterrupted one does."""
        super().__init__(groups, {"lr": learning_rate, "weight_decay": 0.0})
        self._spec, self._seed = spec, seed
        self._places: dict[nn.Parameter, int] = {
            p: place for place, p in enumerate(p for g in self.param_groups for p in g["params"])
        }
        self._squares: list[torch.Tensor] = []
        self._hooks: list[RemovableHandle] = []
        self._tried: set[torch.Size] = set()
        """Shapes of this step."""
        if spec.step_in_backward:
            for group in self.param_groups:
                update = self._at_once(group)
                self._hooks += [p.register_post_accumulate_grad_hook(update) for p in group["params"]]

    @property
    def in_backward(self) -> bool:
        """Whether weights are updated during the backward pass, so that `step` sees no gradients."""
        return self._spec.step_in_backward

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every weight that has a gradient."""
        self._tried.clear()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)

    def norm(self) -> torch.Tensor:
        """The norm of the gradients since the last call; only with `step_in_backward`."""
        squares, self._squares = self._squares, []
        return torch.stack(squares).sum().sqrt() if squares else torch.zeros(())

    def expected_state_bytes(self) -> int:
        """Bytes of the state after the first step, but for scalars and small tensors."""
        per_value = {"adamw_torch": 8.0, "adamw_bnb_8bit": 2 + 8 / BLOCK, "adafactor": 0.0}[self._spec.optim]
        rest = 2 * (self._spec.weight_storage == "bf16-kahan")
        return round((per_value + rest) * sum(parameter.numel() for parameter in self._places))

    def release(self) -> None:
        """Let go of the parameters, whose hooks would keep the state in memory as long as the model."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def _at_once(self, group: dict[str, Any]) -> Callable[[torch.Tensor], None]:
        @torch.no_grad()
        def update(parameter: torch.Tensor) -> None:
            assert isinstance(parameter, nn.Parameter) and parameter.grad is not None  # noqa: S101 a hook of its gradient
            self._squares.append(torch.linalg.vector_norm(parameter.grad, dtype=torch.float32).square())
            self._update(parameter, parameter.grad, group)
            parameter.grad = None

        return update

    def _update(self, parameter: nn.Parameter, gradient: torch.Tensor, group: dict[str, Any]) -> None:
        state: State = self.state[parameter] or self._begin(parameter)
        fake = isinstance(parameter.data, FakeTensor)  # its parts are all alike, and so are tensors of its shape
        if fake and parameter.shape in self._tried:
            return
        self._tried.add(parameter.shape)
        state["step"] += 1
        step = int(state["step"])
        rounding = torch.Generator(parameter.device)
        rounding.manual_seed(((self._seed * 1_000_003 + step) * 1_000_003 + self._places[parameter]) % 2**63)
        keep = 1 - group["lr"] * group["weight_decay"]
        if self._spec.optim == "adafactor":
            change = _adafactor(gradient.float(), state, step)
            stored = _Stored(parameter, state, slice(None))
            stored.write(stored.read().mul_(keep).sub_(change.flatten(), alpha=group["lr"]), rounding)
            return
        gradients = gradient.reshape(-1)
        for start in range(0, CHUNK if fake else parameter.numel(), CHUNK):
            part = slice(start, min(start + CHUNK, parameter.numel()))
            change = _adam(gradients[part].float(), state, part, step)
            stored = _Stored(parameter, state, part)
            stored.write(stored.read().mul_(keep).sub_(change, alpha=group["lr"]), rounding)

    def _begin(self, parameter: nn.Parameter) -> State:
        """State before the first step, all zero."""
        size, device = parameter.numel(), parameter.device
        state: State = {"step": torch.zeros(())}
        if self._spec.optim == "adafactor":
            if parameter.ndim > 1:
                state[ROWS] = torch.zeros(parameter.shape[:-1], device=device)
                state[COLUMNS] = torch.zeros(parameter.shape[:-2] + parameter.shape[-1:], device=device)
            else:
                state["exp_avg_sq"] = torch.zeros(parameter.shape, device=device)
        elif self._spec.optim == "adamw_bnb_8bit" and size >= SMALLEST:
            for moment, scales in (("exp_avg", MEAN_SCALES), ("exp_avg_sq", SQUARE_SCALES)):
                state[moment] = torch.zeros(size, dtype=torch.uint8, device=device)
                state[scales] = torch.zeros(-(-size // BLOCK), device=device)
        else:
            state["exp_avg"] = torch.zeros(size, device=device)
            state["exp_avg_sq"] = torch.zeros(size, device=device)
        if self._spec.weight_storage == "bf16-kahan" and parameter.dtype == torch.bfloat16:
            state[REST] = torch.zeros(size, dtype=torch.bfloat16, device=device)
        self.state[parameter] = state
        return state


class _Stored:
    """A part of a weight, in its stored form."""

    def __init__(self, parameter: nn.Parameter, state: State, part: slice) -> None:
        self._values = parameter.data.view(-1)[part]
        self._rest = state[REST][part] if REST in state else None

    def read(self) -> torch.Tensor:
        """A copy of the weights in float32, [n], including the Kahan compensation."""
        values = self._values.to(torch.float32, copy=True)
        return values if self._rest is None else values.add_(self._rest)

    def write(self, values: torch.Tensor, rounding: torch.Generator) -> None:
        """Store float32 values [n], which are changed."""
        if self._values.dtype == torch.float32:
            self._values.copy_(values)
        elif self._rest is not None:
            self._values.copy_(values)
            self._rest.copy_(values.sub_(self._values))
        else:
            self._values.copy_(rounded_stochastically(values, rounding))


def rounded_stochastically(values: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Round float32 values to bfloat16 numbers, in place: up with the probability by which they exceed the lower one.

    A bfloat16 number is a float32 one whose lower 16 bits are zero: those bits plus a random number of 16 bits carry
    into the upper ones with that probability.
    """
    bits = values.view(torch.int32)
    noise = torch.randint(1 << 16, bits.shape, dtype=torch.int32, device=bits.device, generator=generator)
    bits.add_(noise).bitwise_and_(-(1 << 16))
    return values


def _adam(gradient: torch.Tensor, state: State, part: slice, step: int) -> torch.Tensor:
    """AdamW's change of a part of a weight at rate 1, [n]; updates the moments."""
    first, second = BETAS
    mean = _moment(state, "exp_avg", MEAN_SCALES, part).lerp_(gradient, 1 - first)
    square = (
        _moment(state, "exp_avg_sq", SQUARE_SCALES, part).mul_(second).addcmul_(gradient, gradient, value=1 - second)
    )
    divisor = square.sqrt().div_((1 - second**step) ** 0.5).add_(EPSILON)
    change = mean.div(divisor).div_(1 - first**step)
    _keep(state, "exp_avg", MEAN_SCALES, part, mean)
    _keep(state, "exp_avg_sq", SQUARE_SCALES, part, square)
    return change


def _adafactor(gradient: torch.Tensor, state: State, step: int) -> torch.Tensor:
    """Adafactor's change of a weight at rate 1, in the weight's shape; updates the second moments. Without momentum and
    without rates relative to the weight's size, as transformers' Trainer sets it."""
    new = step**-DECAY
    squares = gradient.square().add_(TINY)
    if ROWS in state:
        rows = state[ROWS].lerp_(squares.mean(-1), new)
        columns = state[COLUMNS].lerp_(squares.mean(-2), new)
        by_row = (rows / rows.mean(-1, keepdim=True)).rsqrt_().unsqueeze(-1)
        change = gradient.mul(by_row).mul_(columns.rsqrt().unsqueeze(-2))
    else:
        change = gradient.mul(state["exp_avg_sq"].lerp_(squares, new).rsqrt())
    size = change.square().mean().sqrt_()
    return change.div_(size.clamp_(min=1))


def _moment(state: State, moment: str, scales: str, part: slice) -> torch.Tensor:
    """A part of a moment in float32; the stored one itself where it is float32."""
    values = state[moment][part]
    if scales not in state:
        return values
    if isinstance(values, FakeTensor):  # estimated where bitsandbytes need not be installed
        return torch.empty_like(values, dtype=torch.float32)
    code = _code(moment == "exp_avg", values.device)
    found: torch.Tensor = torch.ops.bitsandbytes.dequantize_blockwise(
        values, state[scales][_blocks(part)], code, BLOCK, torch.float32
    )
    return found


def _keep(state: State, moment: str, scales: str, part: slice, values: torch.Tensor) -> None:
    """Quantize a part of a moment, if it is stored so."""
    if scales not in state:
        return
    if isinstance(values, FakeTensor):
        quantized, absmax = torch.empty_like(values, dtype=torch.uint8), torch.empty_like(state[scales][_blocks(part)])
    else:
        code = _code(moment == "exp_avg", values.device)
        quantized, absmax = torch.ops.bitsandbytes.quantize_blockwise(values, code, BLOCK)
    state[moment][part] = quantized
    state[scales][_blocks(part)] = absmax


def _blocks(part: slice) -> slice:
    return slice(part.start // BLOCK, -(-part.stop // BLOCK))


@cache
def _code(signed: bool, device: torch.device) -> torch.Tensor:
    """bitsandbytes' 256 codes, in ascending order. Imported here, because importing bitsandbytes takes seconds."""
    from bitsandbytes.functional import create_dynamic_map  # noqa: PLC0415

    codes: torch.Tensor = create_dynamic_map(signed)  # type: ignore[no-untyped-call]
    return codes.to(device)
