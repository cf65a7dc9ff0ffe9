"""Trainings that take turns in one process and compute their forward and backward passes together.

    member 1   ── own work ──┐ waits                          ┌── own work: clip, optimizer step, log, validation …
    member 2                 └── own work ──┐ waits           │            └── own work …
    group                                   └── joint pass ───┘

Each member is a whole attempt with its own order of the data, seed, schedule, optimizer, clipping, evaluations and
checkpoints, in a thread. Only one thread runs at a time: the turn passes when a member needs a pass or ends. When every
member waits, their batches are computed as one (`worker.engine.group.joint`), and each goes on with its own gradients.
A member that diverges, is stopped or ends leaves the group, and the others go on.

A member has its own states of torch's random generators, put in place for its turn and for its rows in a joint pass.

**Time.** A member's clock runs in its turns, and in a joint pass at the rate 1/n of the n members in it. So the clocks
of all members sum to the time of the group.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import nn

from worker.engine.data.batches.batches import Batch
from worker.engine.group.joint import Joint, NotJoined
from worker.engine.loop.failures import out_of_memory
from worker.engine.loop.step import Enter, forward_and_back
from worker.engine.saving.resume import random_state, set_random_state
from worker.engine.tasks import TaskFile


class Pass(NamedTuple):
    """The pass that a member waits for: the arguments of `forward_and_back`."""

    task: TaskFile
    model: nn.Module
    batch: Batch
    units: int
    device: torch.device
    bf16: bool
    enter: Enter
    factor: float | None
    """None: a group has one device."""


class Member:
    def __init__(self, group: "Group", work: Callable[["Member"], None]) -> None:
        self.wanted: Pass | None = None
        self.ended = False
        self.random: Mapping[str, torch.Tensor] = {}
        """States of torch's generators while it has no turn."""
        self._group, self._turn = group, threading.Semaphore(0)
        self._loss: torch.Tensor | None = None
        self._error: BaseException | None = None
        self._used, self._since, self._rate = 0.0, 0.0, 0.0
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)

    def forward_and_back(
        self,
        task: TaskFile,
        model: nn.Module,
        batch: Batch,
        units: int,
        device: torch.device,
        bf16: bool,
        enter: Enter,
        factor: float | None = None,
    ) -> torch.Tensor:
        """Like `worker.engine.loop.step.forward_and_back`, but in the next joint pass."""
        enter("forward")
        self.wanted = Pass(task, model, batch, units, device, bf16, enter, factor)
        self._group.returned.release()
        self._turn.acquire()
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        assert self._loss is not None  # noqa: S101 it has the turn after a pass
        return self._loss

    def now(self) -> float:
        return self._used + self._rate * (time.perf_counter() - self._since)

    def run_clock(self, rate: float) -> None:
        """Let its clock run at a rate from now on; 0 stops it."""
        self._used, self._since, self._rate = self.now(), time.perf_counter(), rate

    def answer(self, loss: torch.Tensor | None, error: BaseException | None = None) -> None:
        """The outcome of the pass that it waits for."""
        self.wanted, self._loss, self._error = None, loss, error

    def take_turn(self) -> None:
        """Run until it needs a pass or ends."""
        with self.drawing():
            self.run_clock(1.0)
            if self._thread.ident is None:
                self._thread.start()
            else:
                self._turn.release()
            self._group.returned.acquire()
            self.run_clock(0.0)

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """Random numbers are this member's."""
        if self.random:
            set_random_state(self.random)
        yield
        self.random = random_state(self._group.device)

    def _run(self, work: Callable[["Member"], None]) -> None:
        try:
            work(self)
        finally:
            self.ended = True
            self._group.returned.release()


class Group:
    def __init__(self, device: torch.device, log: Callable[[str], None]) -> None:
        """`log`: write a line to the log of every member."""
        self.device, self._log = device, log
        self.members: list[Member] = []
        self.returned = threading.Semaphore(0)
        """Released by a member that gives up its turn."""
        self._joint: Joint | None = None
        self._apart = False
        """Passes are computed one by one."""

    def run(self, works: Sequence[Callable[[Member], None]]) -> None:
        """Run some works, each as a member. They handle their own errors."""
        self.members = [Member(self, work) for work in works]
        while running := [member for member in self.members if not member.ended]:
            for member in running:
                if member.wanted is None:
                    member.take_turn()
            waiting = [member for member in running if not member.ended]
            if waiting:
                self._pass(waiting)

    def _pass(self, waiting: Sequence[Member]) -> None:
        if len(waiting) > 1 and not self._apart:
            kept = [(member, dict(member.random), _gradients(member)) for member in waiting]
            for member in waiting:
                member.run_clock(1 / len(waiting))
            try:
                self._together(waiting)
                return
            except NotJoined as reason:
                self._log(f"The runs of this group train one after the other in one process: {reason}.")
            except Exception as error:  # only the members that caused it are to fail, each in its own pass
                why = "did not fit into memory" if out_of_memory(error) else f"failed ({type(error).__name__}: {error})"
                self._log(f"A joint pass {why}: the runs of this group train one after the other.")
            finally:
                for member in waiting:
                    member.run_clock(0.0)
            self._apart, self._joint = True, None
            for member, random, gradients in kept:
                member.random = random
                for parameter, gradient in gradients:
                    parameter.grad = gradient
        for member in waiting:
            self._alone(member)

    def _together(self, waiting: Sequence[Member]) -> None:
        passes = [member.wanted for member in waiting if member.wanted is not None]
        if self._joint is None:
            self._joint = Joint([(member, wanted.model) for member, wanted in zip(waiting, passes, strict=True)])
        first, losses = passes[0], []
        with torch.autocast(first.device.type, torch.bfloat16, enabled=first.bf16):
            sums = self._joint.losses(first.task, waiting, [wanted.batch for wanted in passes])
            losses = [total / wanted.units for total, wanted in zip(sums, passes, strict=True)]
        for wanted in passes:
            wanted.enter("backward")
        torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)  # the clocks of the members are not those of the device
        for member, loss in zip(waiting, losses, strict=True):
            member.answer(loss.detach())

    def _alone(self, member: Member) -> None:
        wanted = member.wanted
        assert wanted is not None  # noqa: S101 it waits for a pass
        member.run_clock(1.0)
        with member.drawing():
            try:
                member.answer(forward_and_back(*wanted))
            except Exception as error:
                member.answer(None, error)
        member.run_clock(0.0)


def _gradients(member: Member) -> list[tuple[nn.Parameter, torch.Tensor | None]]:
    """Gradients of earlier batches of the step, as copies: a pass that fails may have added to them."""
    assert member.wanted is not None  # noqa: S101 it waits for a pass
    trained = [p for p in member.wanted.model.parameters() if p.requires_grad]
    return [(p, None if p.grad is None else p.grad.clone()) for p in trained]
