"""The processes that train one model together, each on a device of its own (torch.distributed).

    step        B batches; rank r of W takes the batches r, r + W, r + 2W, …                       `share`
    loss        Σ over ranks and their batches of  sum(batch) / units of the whole step           `sum`
    gradient    the same sum, in torch's all-reduce or reduce-scatter                             `wrap`
    stop        as soon as one rank has to                                                        `agree`

So a step has the same batches, loss and gradient on any number of processes: W = 2 with one batch each is a single
process that accumulates two. Only the order of a sum differs, and dropout, which every rank draws from its own
generator. Every rank executes the same loop, evaluations included, so their collective operations meet; rank 0 reports.

torch divides gradients by W, so the loss of each batch is multiplied by it before the backward pass
(`set_gradient_divide_factor` needs an operation that gloo lacks).

Where a frozen base stays, each rank holds a replica (`DistributedDataParallel`). Where all weights train, each holds a
W-th of every weight, gradient and moment, and gathers a block's weights when the block is computed (`fully_shard`,
Zhao et al. 2023, arXiv 2304.11277; `worker.engine.ranks.sharded`).
"""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from safetensors import SafetensorError
from torch import nn
from torch._C._distributed_c10d import FileStore
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel

from app.domain.failures import FailureCode, RunFailed
from app.domain.messages import _
from worker.engine.loop.progress import Stopped
from worker.engine.ranks.sharded import shard, whole

_SAME_BUFFERS: dict[str, Any] = {
    "forward_sync_buffers" if "forward_sync_buffers" in signature(DistributedDataParallel).parameters  # torch 2.13
    else "broadcast_buffers": False
}  # fmt: skip
"""Buffers are constants, which need not be sent for every batch."""


class Replica(DistributedDataParallel):
    """`DistributedDataParallel` with the attributes of its module, which the losses use."""

    def __init__(self, module: nn.Module) -> None:
        # torch would send all tensors at once, from a second copy of the model
        for tensor in (*module.parameters(), *module.buffers()):
            values = tensor.detach().contiguous()
            dist.broadcast(values, 0)
            if not tensor.is_contiguous():
                tensor.detach().copy_(values)
        # Some parameters have no part in the loss (an unused pooler), which torch has to look for.
        super().__init__(
            module, find_unused_parameters=True, gradient_as_bucket_view=True, init_sync=False, **_SAME_BUFFERS
        )

    def __getattr__(self, name: str) -> Any:
        """Fall back to the attributes of the wrapped module."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("module"), name)


PATIENCE = timedelta(days=7)
"""How long a collective operation waits for the other ranks. A rank that dies ends the group at once, and the
supervisor handles one that hangs."""
_LEFT: list[dist.ProcessGroup] = []
"""All groups that this process has left, which live as long as it does. To free one is to wait for its threads with
Python's lock held, and a thread that still has to free the tensor of the last operation waits for that lock."""


class Followed(Exception):
    """The part of a rank other than 0 is done: rank 0 alone evaluates, saves and reports."""


class Share(NamedTuple):
    """A batch of a step that this rank computes."""

    indices: Sequence[int]
    counts: bool
    """False: another rank computes one batch more, and this one keeps step with a batch of weight zero."""
    last: bool


class Models(NamedTuple):
    trained: nn.Module
    """Computes the training loss, so that gradients are those of all ranks."""
    evaluated: nn.Module
    """Computes evaluations, on every rank alike."""


class Team:
    """The ranks of an attempt; without arguments a single process, for which every operation returns its argument."""

    def __init__(self, rank: int = 0, world: int = 1, meeting: Path | None = None) -> None:
        """`meeting`: a file that does not exist yet, in a directory that all ranks share."""
        self.rank, self.world, self._meeting = rank, world, meeting
        self._whole: nn.Module | None = None

    @property
    def leads(self) -> bool:
        """This is rank 0."""
        return self.rank == 0

    @property
    def sharded(self) -> bool:
        """Each rank holds a part of every weight."""
        return self._whole is not None

    @property
    def parts(self) -> int:
        """Number of ranks that hold a part of the weights of their own, and write it."""
        return self.world if self.sharded else 1

    @property
    def writes(self) -> bool:
        """This rank writes weights: its part of them, or all as rank 0."""
        return self.leads or self.sharded

    def folder(self, shared: Path) -> Path:
        """This rank's own directory, in that of all ranks; the first of them has that itself."""
        own = shared if self.leads else shared / f".rank-{self.rank}"
        own.mkdir(exist_ok=True)
        return own

    @contextmanager
    def joining(self, device: torch.device) -> Iterator[None]:
        """Join after what the code inside does on rank 0, and before it on the others, which find its files."""
        if not self.leads:
            self.join(device)
        yield
        if self.leads:
            self.join(device)

    def join(self, device: torch.device) -> None:
        """Wait until all ranks are here. Their traffic stays on this host.

        Raises `RunFailed(bad_configuration)` if rank 0 sees fewer GPUs than there are ranks.
        """
        if self.world == 1:
            return
        if device.type == "cuda" and self.leads and torch.cuda.device_count() < self.world:
            text = _(
                "The run needs %(needed)s GPUs, and its worker has given it %(given)s. Set devices to %(given)s, or "
                "start a worker that has more.",
                needed=self.world,
                given=torch.cuda.device_count(),
            )
            raise RunFailed(FailureCode.BAD_CONFIGURATION, text)
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
            os.environ.setdefault(name, "lo")
        store = FileStore(str(self._meeting), self.world)
        dist.init_process_group(backend, store=store, rank=self.rank, world_size=self.world, timeout=PATIENCE)

    def share(self, batches: Sequence[Sequence[int]]) -> Iterator[Share]:
        """The batches of a step for this rank: as many as for every other."""
        mine = [*batches[self.rank :: self.world]]
        rounds = -(-len(batches) // self.world)
        padded = mine if len(mine) == rounds else [*mine, min(batches, key=len)]
        for place, indices in enumerate(padded):
            yield Share(indices, counts=place < len(mine), last=place == rounds - 1)

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """The sum over all ranks, in place."""
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def agree(self, stop: bool) -> bool:
        """True on every rank if it is on any. On the host: it never waits for a GPU."""
        return stop if self.world == 1 else bool(self.sum(torch.tensor(int(stop))))

    def each(self, value: float) -> list[float]:
        """The value of every rank, in order."""
        values = torch.zeros(self.world, dtype=torch.float64)
        values[self.rank] = value
        return self.sum(values).tolist()

    def total(self, value: float | None) -> float | None:
        """The sum over all ranks; None if it is unknown on one."""
        values = self.each(math.nan if value is None else value)
        return value if self.world == 1 else None if math.isnan(sum(values)) else sum(values)

    def wrap(self, model: nn.Module, blocks: Sequence[str], device: torch.device, *, bf16: bool) -> Models:
        """The model as this team trains it; `blocks` are its transformer blocks. Create the optimizer afterwards, from
        the parameters of `evaluated`. A sharded model's own parameters are empty until `gather`."""
        if self.world == 1:
            return Models(model, model)
        if not all(p.requires_grad for p in model.parameters()):
            return Models(Replica(model), model)
        twin = shard(model, blocks, init_device_mesh(device.type, (self.world,)), bf16=bf16)
        self._whole, self._twin = model, twin
        return Models(twin, twin)

    def gather(self) -> None:
        """Give rank 0 the whole of a sharded model; does nothing to others."""
        if self._whole is None:
            return
        for module in self._twin.modules():
            if isinstance(module, FSDPModule):  # the last evaluation has left the outermost weights gathered
                module.reshard()
        for parameter, part in zip(self._whole.parameters(), self._twin.parameters(), strict=True):
            gathered = whole(part).detach()
            if self.leads:
                parameter.data = gathered
        del self._twin

    def leave(self) -> None:
        """End the group. Raises `Followed` on every rank but 0."""
        if self.world > 1:
            _LEFT.extend(dist.distributed_c10d._world.pg_map)
            dist.destroy_process_group()
            if not self.leads:
                raise Followed

    def computing(self, model: nn.Module, last: bool) -> AbstractContextManager[None]:
        """For a forward and backward pass over one batch: replicas exchange gradients once per step."""
        return nullcontext() if last or not isinstance(model, Replica) else model.no_sync()

    def factor(self, counts: bool) -> float | None:
        """What to multiply a batch's gradient by; None: nothing."""
        if self.world == 1:
            return None
        return float(self.world) if counts else 0.0

    def stopping(self, raise_if_stopped: Callable[[], None]) -> Callable[[], None]:
        """The same check for all ranks, which then stop at the same batch."""
        if self.world == 1:
            return raise_if_stopped

        def together() -> None:
            try:
                raise_if_stopped()
                stop = False
            except Stopped:
                stop = True
            if self.agree(stop):
                raise Stopped

        return together

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Raise OSError on every rank if writing to the disk fails on one."""
        failed: OSError | SafetensorError | None = None
        try:
            yield
        except (OSError, SafetensorError) as error:  # `save_file` raises the latter when the disk is full
            failed = error
        if self.agree(failed is not None):
            raise failed or OSError("another process of this run could not write its part")
