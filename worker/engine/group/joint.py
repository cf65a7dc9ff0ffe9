"""One forward pass over the batches of several members, whose adapters share a frozen base model.

    x [K·n, T, in]    the rows of member 1, then those of member 2, …
    y = W·x + s_k·B_k·A_k·x        for the rows of member k: one product with W, and two batched products (`bmm`)
                                   of [K, n·T, in] with the stacked A [K, r, in] and B [K, out, r]

Each member has its own head too. A row of a transformer does not depend on the other rows of its batch, so each member
gets the gradients of its own pass, but for rounding. Rows are padded on the right to the longest of all members.

Dropout is drawn for each member by itself, with its own generator and for the shape of its own batch, so its masks are
those of its own pass. That holds for dropout in modules and, on a CPU, in attention. Attention on CUDA, functions that
a model calls itself (T5's attention), and members of an encoder-decoder with batches of other lengths draw other masks,
which are as random.
"""

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from peft.tuners.lora import LoraLayer
from peft.utils import ModulesToSaveWrapper
from torch import nn
from torch.nn import functional

from worker.engine.data.batches.batches import IGNORED, Batch, Places
from worker.engine.models.attention import drawn_by
from worker.engine.models.dropout import Dropout
from worker.engine.tasks import TaskFile


class NotJoined(Exception):
    """Why some passes cannot be computed as one."""


class Drawing(Protocol):
    """A member, as far as a joint pass knows it."""

    def drawing(self) -> AbstractContextManager[None]:
        """Random numbers inside are those of the member."""


class Layout:
    """Which rows of the present pass belong to which adapter."""

    def __init__(self) -> None:
        self.places: list[int] = []
        """Indices of the adapters, in the order of the rows."""
        self.rows: list[int] = []
        self.lengths: list[int] = []
        """Padded length of each member's own batch."""
        self.members: list[Drawing] = []

    def split(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Rows by member. Raises NotJoined if a module has mixed them."""
        if x.shape[0] != sum(self.rows):
            raise NotJoined("a module of this model does not keep the rows of a batch apart")
        return torch.split(x, self.rows)

    def dropped(self, x: torch.Tensor, drop: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """Dropout of each member's rows by itself: [R, …], [R, T, …] or attention weights [R, H, T, T]."""
        longest, parts = max(self.lengths), []
        for part, length, member in zip(self.split(x), self.lengths, self.members, strict=True):
            own = part
            if length < longest and part.ndim == 3 and part.shape[1] == longest:
                own = part[:, :length]
            elif length < longest and part.ndim == 4 and part.shape[2:] == (longest, longest):
                own = part[:, :, :length, :length]
            with member.drawing():
                kept = drop(own)
            if own is not part:  # padding: whether it is dropped has no effect
                edges = [edge for n, m in zip(part.shape[:0:-1], own.shape[:0:-1], strict=True) for edge in (0, n - m)]
                kept = functional.pad(kept, edges)
            parts.append(kept)
        return torch.cat(parts)


class JointDropout(nn.Dropout):
    layout: Layout
    own: type[nn.Dropout]
    """The class of this module in a member's own model."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """[R, …] to the same shape; unchanged in evaluation mode."""
        if not self.training or self.p == 0:
            return input
        return self.layout.dropped(input, lambda part: self.own.forward(self, part))


class JointLora(nn.Module):
    """A frozen linear layer with one LoRA per member."""

    def __init__(self, layers: Sequence[Any], layout: Layout) -> None:
        """`layers`: PEFT's `LoraLayer` of each member."""
        super().__init__()
        self.base_layer = layers[0].get_base_layer()
        # In lists, since they belong to the members' models.
        self._a: list[nn.Parameter] = [layer.lora_A["default"].weight for layer in layers]
        self._b: list[nn.Parameter] = [layer.lora_B["default"].weight for layer in layers]
        self._scaling = [float(layer.scaling["default"]) for layer in layers]
        self._layout = layout
        self.dropout = copy.copy(layers[0].lora_dropout["default"])

    @property
    def weight(self) -> torch.Tensor:
        """W; some models read its dtype."""
        weight: torch.Tensor = self.base_layer.weight
        return weight

    @property
    def bias(self) -> torch.Tensor | None:
        bias: torch.Tensor | None = self.base_layer.bias
        return bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [R, …, in] -> y [R, …, out]."""
        layout = self._layout
        y: torch.Tensor = self.base_layer(x)
        h = self.dropout(x)
        places = layout.places
        if len(set(layout.rows)) == 1 and x.shape[0] == sum(layout.rows):
            a = torch.stack([self._a[place] for place in places])  # [K, r, in]
            b = torch.stack([self._b[place] * self._scaling[place] for place in places])  # [K, out, r]
            low = torch.bmm(h.reshape(len(places), -1, h.shape[-1]), a.mT)  # [K, n·T, r]
            return torch.baddbmm(y.reshape(len(places), -1, y.shape[-1]), low, b.mT).view(y.shape)
        parts = []
        for place, part in zip(places, layout.split(h), strict=True):
            low = functional.linear(part, self._a[place])
            parts.append(functional.linear(low, self._b[place] * self._scaling[place]))
        return y + torch.cat(parts)


class JointHead(nn.Module):
    """The trained copy of a module, one per member."""

    def __init__(self, modules: Sequence[nn.Module], layout: Layout) -> None:
        super().__init__()
        self._modules_of = [*modules]
        self._layout = layout

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[R, …] -> [R, …]."""
        parts = []
        for place, member, part in zip(self._layout.places, self._layout.members, self._layout.split(x), strict=True):
            with member.drawing():
                parts.append(self._modules_of[place](part))
        return torch.cat(parts)


class Joint:
    """The model of a joint pass: the frozen base of the members, with everything that they train."""

    def __init__(self, members: Sequence[tuple[Drawing, nn.Module]]) -> None:
        """Each member with its own model, as PEFT made it, in training mode. Raises NotJoined."""
        self._places = {id(member): place for place, (member, _model) in enumerate(members)}
        self._layout = Layout()
        models: list[Any] = [model for _member, model in members]
        if _draws_again(models[0]):
            raise NotJoined("gradient checkpointing would draw other dropout masks in the backward pass")
        self.model = shared_copy(models[0])
        self._pad_token: int = getattr(models[0].config, "pad_token_id", None) or 0
        for name, module in list(models[0].named_modules()):
            peers = [model.get_submodule(name) for model in models]
            if isinstance(module, LoraLayer):
                self._put(name, JointLora(peers, self._layout))
            elif isinstance(module, ModulesToSaveWrapper):
                self._put(name, JointHead([_saved(peer) for peer in peers], self._layout))
        for module in self.model.modules():
            if type(module) in (nn.Dropout, Dropout):
                own: Any = type(module)
                module.__class__ = JointDropout
                assert isinstance(module, JointDropout)  # noqa: S101 now it is
                module.own, module.layout = own, self._layout

    def losses(self, task: TaskFile, members: Sequence[Drawing], batches: Sequence[Batch]) -> list[torch.Tensor]:
        """The sum of the losses of each member's batch. Raises NotJoined."""
        layout = self._layout
        layout.members = [*members]
        layout.places = [self._places[id(member)] for member in members]
        layout.rows = [len(batch.labels) for batch in batches]
        layout.lengths = [batch.inputs["input_ids"].shape[1] for batch in batches]
        joined = join(batches, self._pad_token)
        with drawn_by(layout.dropped):
            losses = task.losses(self.model, joined)
        counts = [len(batch.labels) if batch.places is None else len(batch.places.rows) for batch in batches]
        if len(losses) != sum(counts):
            raise NotJoined("the task does not have a loss for each unit")
        return [part.sum() for part in torch.split(losses, counts)]

    def _put(self, name: str, module: nn.Module) -> None:
        module.train()
        self.model.set_submodule(name, module)


def shared_copy(model: nn.Module, own: Sequence[nn.Module] = ()) -> nn.Module:
    """A copy of a model's modules that shares its tensors, except for those of the modules in `own`."""
    apart = {id(tensor) for module in own for tensor in (*module.parameters(), *module.buffers())}
    shared = [t for t in (*model.parameters(), *model.buffers()) if id(t) not in apart]
    return copy.deepcopy(model, {id(tensor): tensor for tensor in shared})


def join(batches: Sequence[Batch], pad_token: int) -> Batch:
    """Batches below each other, padded on the right with the token by which a decoder that classifies finds the end
    of a row. Raises NotJoined for batches with other inputs than rows of tokens and their masks, such as packed ones.
    """
    names = batches[0].inputs.keys()
    if any(batch.inputs.keys() != names or any(t.ndim != 2 for t in batch.inputs.values()) for batch in batches):
        raise NotJoined("packed batches have no rows of their own")
    fill = {"input_ids": pad_token}
    inputs = {name: _below([batch.inputs[name] for batch in batches], fill.get(name, 0)) for name in names}
    labels = [batch.labels for batch in batches]
    rows, places = [len(batch.labels) for batch in batches], None
    if batches[0].places is not None:
        shifted = [
            Places(batch.places.rows + sum(rows[:k]), batch.places.columns)
            for k, batch in enumerate(batches)
            if batch.places is not None
        ]
        places = Places(torch.cat([p.rows for p in shifted]), torch.cat([p.columns for p in shifted]))
    joined = torch.cat(labels) if labels[0].ndim == 1 else _below(labels, IGNORED)
    return Batch(inputs, joined, sum(batch.tokens for batch in batches), places)


def _below(tensors: Sequence[torch.Tensor], fill: int) -> torch.Tensor:
    longest = max(tensor.shape[1] for tensor in tensors)
    return torch.cat([functional.pad(tensor, (0, longest - tensor.shape[1]), value=fill) for tensor in tensors])


def _draws_again(model: Any) -> bool:
    """Gradient checkpointing repeats a block that may have dropout."""
    settings = model.config.to_dict().items()
    drops = any("drop" in name and isinstance(value, float) and value > 0 for name, value in settings)
    drops = drops or any(isinstance(module, nn.Dropout) and module.p > 0 for module in model.modules())
    return drops and any(getattr(module, "gradient_checkpointing", False) for module in model.modules())


def _saved(wrapper: nn.Module) -> nn.Module:
    assert isinstance(wrapper, ModulesToSaveWrapper)  # noqa: S101 the members' models are alike
    return wrapper.modules_to_save["default"]
