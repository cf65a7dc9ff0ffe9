"""The memory ledger of a train step, for real and fake tensors alike.

Every storage is recorded in a journal when it is allocated and again when it is freed:

    + 4 MiB   forward    aten.addmm          1
    + 4 MiB   forward    aten.gelu           2
    − 4 MiB   backward                       2
    + 8 MiB   backward   aten.mm             3

The peak is the largest running sum of the journal. Owners are assigned when the step is over: a storage that the
forward pass leaves for the backward pass is an activation, one that lives within a single pass is temporary, and one
that became a parameter's gradient or optimizer state is that, whichever operation allocated it.

A `TorchDispatchMode` sees every operation below autograd, with and without real memory, in recomputed checkpointed
blocks, and inside custom autograd functions. Storages, not tensors, are counted: views, in-place changes and tied
weights add nothing. A finalizer on each storage reports when it is freed (as in torch's own
torch.distributed._tools.mem_tracker, which does not support frozen parameters).

Not covered: what an operation allocates and frees internally, and memory of the libraries themselves. Those are a
constant of the device (`app.domain.resources.calibration`).
"""

import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from operator import attrgetter
from typing import Any, Literal

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from app.domain.resources.ledger import Ledger, Moment, Owner, owners
from worker.engine.memory import allocator
from worker.engine.memory.sharing import Sharing
from worker.engine.models.quantized.quantization import stored

_PAGE = 4096
_MAPPED = 64 * 2**10
_HEADER = 80
"""The header that glibc puts before a mapped block, with the alignment that torch requests."""
_CUDA_BLOCK = 512
_TRIMMED = 4 * 2**20


def rounded_on_host(size: int) -> int:
    """Bytes that a CPU tensor of `size` bytes takes: from 64 KiB on whole pages, with the allocator's header in the
    first."""
    return size if size < _MAPPED else -(-(size + _HEADER) // _PAGE) * _PAGE


def rounded_on_cuda(size: int) -> int:
    """Bytes that torch's CUDA allocator counts for a tensor of `size` bytes."""
    return -(-size // _CUDA_BLOCK) * _CUDA_BLOCK


_elsewhere = False


@contextmanager
def on_the_host() -> Iterator[None]:
    """What is allocated here is in the host's memory and not in the device's, also where a CPU stands in for one."""
    global _elsewhere
    _elsewhere = True
    try:
        yield
    finally:
        _elsewhere = False


class _Entry:
    """One storage."""

    __slots__ = ("again", "born", "died", "gathered", "moment", "operation", "owner", "size")

    def __init__(self, size: int, moment: Moment, born: int, operation: str, again: bool) -> None:
        self.size, self.moment, self.born, self.operation = size, moment, born, operation
        self.again = again
        """Allocated with gradients enabled: by a forward pass, or by its recomputation within the backward pass."""
        self.died: int | None = None
        self.owner: Owner | None = None
        self.gathered = False
        """A gradient of a weight outside of the blocks: several devices hold it whole until the backward pass ends."""

    @property
    def held_by(self) -> Owner:
        """The owner, once the step is over."""
        if self.owner is not None:
            return self.owner
        if self.moment == "data":
            return "other"
        if self.moment == "forward":
            return "temporaries" if self.died == self.born else "activations"
        return "activations" if self.moment == "backward" and self.again else "temporaries"


class Journal(TorchDispatchMode):
    """Records the storages of every operation executed while it is entered."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        moment: Callable[[], Moment],
        rounded: Callable[[int], int],
        trim: Callable[[], None] = lambda: None,
        sharing: Sharing | None = None,
    ) -> None:
        """`moment` returns the current pass; `rounded` maps a storage's size to the allocator's; `trim` returns freed
        memory to the kernel now and then, so that resident memory equals live memory. With `sharing` the ledger is that
        of one of several devices."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._trim, self._sharing = trim, sharing
        self._model, self._optimizer, self._moment, self._rounded = model, optimizer, moment, rounded
        self._live: dict[int, _Entry] = {}
        self._lines: list[tuple[_Entry, int]] = []
        self._finalizers: list[weakref.finalize[..., torch.UntypedStorage]] = []
        self._pass, self._last = 0, moment()
        self._freed = 0
        self._host, self.most_on_host = 0, 0
        self._kind = next((p.device.type for p in model.parameters()), "cpu")
        self._own((t for p in model.parameters() for t in stored(p)), "weights")
        self._own(model.buffers(), "weights")
        self.settle()

    def settle(self) -> None:
        """Mark the storages that are gradients and optimizer state by now; call before gradients are dropped."""
        self._own((p.grad for p in self._model.parameters() if p.grad is not None), "gradients")
        for parameter in self._sharing.others if self._sharing else ():
            if parameter.grad is not None:
                self._entry(parameter.grad).gathered = True
        states = self._optimizer.state.values()
        self._own((t for state in states for t in state.values() if isinstance(t, torch.Tensor)), "optimizer")

    def ledger(self, kind: Literal["estimated", "measured"], step: int | None, rows: int, length: int) -> Ledger:
        """Bytes by owner at the peak so far."""
        sharing = self._sharing
        size = attrgetter("size") if sharing is None else sharing.size
        exchanged = [0] * len(self._lines) if sharing is None else sharing.communication(self._lines)
        total, peak, end = 0, 0, 0
        for place, (entry, sign) in enumerate(self._lines):
            total += sign * size(entry)
            if sign > 0 and total + exchanged[place] > peak:
                peak, end = total + exchanged[place], place + 1
        present = set[_Entry]()
        for entry, sign in self._lines[:end]:
            (present.add if sign > 0 else present.discard)(entry)
        bytes_by_owner: dict[Owner, int] = {"communication": exchanged[end - 1]}
        for entry in present:
            bytes_by_owner[entry.held_by] = bytes_by_owner.get(entry.held_by, 0) + size(entry)
        last = self._lines[end - 1][0]
        return Ledger(
            kind=kind,
            owners=owners(bytes_by_owner),
            moment=last.moment,
            operation=last.operation,
            step=step,
            rows=rows,
            length=length,
            host=self.most_on_host,
        )

    def __exit__(self, *error: Any) -> None:
        """Stop recording. A finalizer keeps its callback, and so the model, alive as long as its storage lives."""
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        for finalizer in self._finalizers:
            finalizer.detach()
        self._finalizers.clear()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Execute the operation, and record new storages."""
        moment = self._moment()
        if self._freed >= _TRIMMED:
            self._freed = 0
            self._trim()
        if moment != self._last:
            self._pass, self._last = self._pass + 1, moment
        output = func(*args, **(kwargs or {}))
        copied = _copies_weight(func, args, self._live)
        for tensor in tree_leaves(output):
            if _elsewhere and isinstance(tensor, torch.Tensor):
                self._left(tensor)
            elif isinstance(tensor, torch.Tensor) and tensor.device.type in (self._kind, "meta"):
                entry = self._entry(tensor, func)
                if copied and entry.owner is None and moment == "forward":
                    entry.owner = "weights"
                    if self._sharing is not None and id(args[0]) in self._sharing.rounded:
                        entry.size = 0  # it is gathered so
        return output

    def _own(self, tensors: Iterable[torch.Tensor], owner: Owner) -> None:
        for tensor in tensors:
            self._entry(tensor).owner = owner

    def _entry(self, tensor: torch.Tensor, func: Any = None) -> _Entry:
        storage = tensor.untyped_storage()
        key = storage._cdata
        entry = self._live.get(key)
        if entry is None:
            operation = func._schema.name.replace("::", ".") if func is not None else ""
            again = torch.is_grad_enabled()
            entry = _Entry(self._rounded(storage.nbytes()), self._moment(), self._pass, operation, again)
            self._live[key] = entry
            self._lines.append((entry, 1))
            self._finalizers.append(weakref.finalize(storage, self._gone, key, entry))
        return entry

    def _left(self, tensor: torch.Tensor) -> None:
        """Count a storage in the host's memory: of no bytes here."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key not in self._live:
            self._live[key] = entry = _Entry(0, self._moment(), self._pass, "", again=False)
            self._host += size
            self.most_on_host = max(self.most_on_host, self._host)
            self._finalizers.append(weakref.finalize(storage, self._left_host, key, entry, size))

    def _left_host(self, key: int, entry: _Entry, size: int) -> None:
        if self._live.get(key) is entry:
            del self._live[key]
        self._host -= size

    def _gone(self, key: int, entry: _Entry) -> None:
        if self._live.get(key) is entry:
            del self._live[key]
        entry.died = self._pass
        self._freed += entry.size
        self._lines.append((entry, -1))


class Ledgers:
    """The ledgers of an attempt: of its first step, and of the largest later one."""

    def __init__(self) -> None:
        self.first: Ledger | None = None
        self.steady: Ledger | None = None
        self.interrupted: Ledger | None = None
        """The ledger of a step that ended in an error, up to the error."""

    @property
    def taken(self) -> list[Ledger]:
        return [ledger for ledger in (self.first, self.steady) if ledger is not None]

    @contextmanager
    def following(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        moment: Callable[[], Moment],
        step: int,
        batch: tuple[int, int],
    ) -> Iterator[None]:
        """Record a step up to the point where its gradients are dropped; `batch`: rows and padded length of its
        largest."""
        device = next(model.parameters()).device
        rounded = rounded_on_cuda if device.type == "cuda" else rounded_on_host
        with Journal(model, optimizer, moment, rounded, allocator.trim) as journal:
            try:
                yield
            except BaseException:
                journal.settle()
                self.interrupted = journal.ledger("measured", step, *batch)
                raise
            journal.settle()
        ledger = journal.ledger("measured", step, *batch)
        if self.first is None:
            self.first = ledger
        elif self.steady is None or ledger.total > self.steady.total:
            self.steady = ledger


def _copies_weight(func: Any, args: tuple[Any, ...], live: dict[int, _Entry]) -> bool:
    """Whether an operation is autocast's conversion of a parameter to another dtype."""
    if func is not torch.ops.aten._to_copy.default or not isinstance(args[0], nn.Parameter):
        return False
    source = live.get(args[0].untyped_storage()._cdata)
    return source is not None and source.owner == "weights"
