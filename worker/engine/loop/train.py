"""The training loop, the same for every method: arms differ only in which parameters require a gradient.

warm-up:   k / w                              for k = 1 … w
    then       1                                  constant
               1 − p                              linear     p = (k − w − 1) / (n − w), from 0 to just below 1
               (1 + cos πp) / 2                   cosine     (Loshchilov & Hutter 2016, arXiv 1608.03983)

The names are those of transformers. Its first step with warm-up has rate 0; counted from 1, as here, no step is lost.
"""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from app.domain.resources.ledger import Moment
from app.domain.runs.status import Phase
from app.domain.runs.training import TrainingArguments
from app.domain.tasks import TASKS as FACTS
from app.domain.tasks import MetricName, Task
from worker.engine.data.batches.batches import Examples
from worker.engine.data.batches.order import Order
from worker.engine.data.batches.padding_free import RowsApart, without_padding
from worker.engine.evaluation.evaluate import Evaluator
from worker.engine.loop.clocks import ClockName
from worker.engine.loop.compiled import CompiledBlocks
from worker.engine.loop.lean_optimizer import LeanOptimizer
from worker.engine.loop.prefix.stored_prefix import StoredPrefix
from worker.engine.loop.progress import Instruments
from worker.engine.loop.step import ForwardAndBack, below_rounding, clip, had_gradient
from worker.engine.memory.measured import tensor_bytes
from worker.engine.methods import Companion
from worker.engine.ranks.team import Models, Team
from worker.engine.saving.best_weights import BestCheckpoint
from worker.engine.saving.resumable import Resumable
from worker.engine.saving.resume import Checkpoint
from worker.engine.saving.steplog import StepLog
from worker.engine.tasks import TASKS

Schedule = Literal["linear", "cosine", "constant"]


def warmup(warmup_steps: float, total: int) -> int:
    """Number of warm-up steps; a value below 1 is a share of all steps, rounded up."""
    steps = math.ceil(warmup_steps * total) if warmup_steps < 1 else int(warmup_steps)
    return min(steps, total)


def factor(step: int, total: int, warmup: int, kind: Schedule) -> float:
    """The factor for optimizer step `step`, from 1 to `total`; in (0, 1]."""
    if step <= warmup:
        return step / warmup
    progress = (step - warmup - 1) / (total - warmup)
    match kind:
        case "constant":
            return 1.0
        case "linear":
            return 1.0 - progress
        case "cosine":
            return 0.5 * (1.0 + math.cos(math.pi * progress))


@dataclass(frozen=True)
class Trained:
    """The outcome of training, apart from the best weights in the model."""

    steps: int
    best_step: int
    tokens: int
    steady_tokens: int
    """Those of `tokens` in steps whose memory was not recorded, and that compiled nothing."""
    optimizer_bytes: int
    without_gradient: frozenset[str]
    """Trainable parameters that never received a non-zero gradient."""
    below_rounding: frozenset[str]
    """Trainable parameters whose change is partly in the Kahan compensation, below the weight's rounding."""


@dataclass(frozen=True)
class Loop:
    """The training configuration: everything but the model."""

    task: Task
    metric: MetricName
    arguments: TrainingArguments
    bf16: bool
    """Compute in bfloat16."""
    learning_rate: float
    """The peak learning rate."""
    optimizer: Callable[[Mapping[str, nn.Parameter], float, float, int], torch.optim.Optimizer]
    """Creates the optimizer, from the trainable parameters by name, peak rate, weight decay and seed."""
    train: Examples
    validation: Examples
    evaluate: Evaluator
    companion: Callable[[nn.Module, int], Companion | None]
    """Creates the method's companion, from the model and the number of steps."""
    prefix: StoredPrefix
    apart: RowsApart
    """Computes padding-free batches."""
    instruments: Instruments
    forward_and_back: ForwardAndBack
    """`worker.engine.loop.step.forward_and_back`, or its equivalent in a group."""
    output: Path
    """Directory of metrics.jsonl, of this rank."""
    checkpoints: Path | None = None
    """Directory of the checkpoints, of all ranks; None: `output`."""
    checkpoint_seconds: float | None = None
    """Seconds between checkpoints; None writes one only when stopped."""
    stop_seconds: float | None = None
    """Seconds that a checkpoint may take when the run is told to stop; None: as long as it takes."""
    compiled: CompiledBlocks | None = None
    """Compiles the blocks; None: they stay plain."""
    order_hash: str = ""
    """`DataSeen.order`."""
    resume: Checkpoint | None = None
    team: Team = field(default_factory=Team)
    blocks: Sequence[str] = ()
    """The model's transformer blocks, by which it is sharded."""

    @property
    def order(self) -> Order:
        return Order(self.train, self.arguments)

    @property
    def steps_per_epoch(self) -> int:
        return self.order.steps_per_epoch

    @property
    def total_steps(self) -> int:
        return self.order.total_steps

    def run(self, model: nn.Module) -> Trained:
        """Train, evaluate as `eval_strategy` says and at the end, and load the best weights back into the model.

        Without validation rows the last weights are the best. Raises `RunFailed(diverged)` if a loss is not finite, and
        `Stopped`, after writing a checkpoint, if asked to stop.
        """
        arguments, clocks, total = self.arguments, self.instruments.clocks, self.total_steps
        team = self.team
        models = team.wrap(model, self.blocks, self.evaluate.device, bf16=self.bf16)
        named = {name: p for name, p in models.evaluated.named_parameters() if p.requires_grad}
        optimizer = self.optimizer(named, self.learning_rate, arguments.weight_decay, arguments.seed)
        warmup_steps = warmup(arguments.warmup_steps, total)
        companion = self.companion(model, total)
        best = BestCheckpoint(self.output, models.evaluated, FACTS[self.task].best_by, team)
        # The same dropout for the same seed, regardless of how many random numbers a method's initialization drew.
        torch.manual_seed(dropout_seed(arguments.seed, team.rank))
        log = StepLog(self.output / "metrics.jsonl", self.steps_per_epoch, self.instruments)
        state = Resumable(
            named,
            optimizer,
            companion,
            best,
            log,
            self.instruments,
            self.evaluate.device,
            self.checkpoints or self.output,
            self.bf16,
            self.order_hash,
            team,
        )
        self.instruments.enter(Phase.TRAIN, total)
        with log, state.left_when_stopped():
            if self.resume is not None:
                state.restore(self.resume)
                if state.evaluation_due:
                    self._validate(models, best, state)
            self._train_mode(models)
            clocks.aside(True)
            state.check_time(self.stop_seconds)
            followed = {step for step, _batch in self.order.heaviest()}
            for batches in islice(self.order.steps(), state.step, total):
                if best.since_best == arguments.early_stopping_patience:
                    self.instruments.sink.log(
                        f"Stopped early at step {state.step}: {best.since_best} consecutive evaluations did not "
                        f"improve on step {best.step}."
                    )
                    break
                step = state.step + 1
                watched = step in followed or step == state.first
                if watched:
                    clocks.aside(True)
                self.instruments.memory.exact(watched)  # the switch, either way, belongs to the measured step
                clocks.aside(watched)
                rate = self.learning_rate * factor(step, total, warmup_steps, arguments.lr_scheduler_type)
                for group in optimizer.param_groups:
                    group["lr"] = rate * group["factor"]
                # the ledger sees no allocation of compiled code, so the steps that it records are plain ones
                compiled = None if watched or self.compiled is None else self.compiled
                with self._followed(step, batches, model, optimizer, watched and not team.sharded):
                    with nullcontext() if compiled is None else compiled.computing():
                        loss, tokens = self._gradients(models.trained, batches)
                    if companion is not None:
                        companion.penalty().backward()  # type: ignore[no-untyped-call]
                    clocks.enter("optimizer")
                    norm = clip(optimizer, named.values(), arguments.max_grad_norm)
                    optimizer.step()
                    if companion is not None:
                        companion.after_step(step)
                    clocks.enter("data")
                new = compiled is not None and compiled.compiled_in_step
                log.add(step, loss, rate, norm, tokens, steady=not watched and not new)
                optimizer.zero_grad(set_to_none=True)
                state.end_step(evaluation_due=self._evaluates(step))
                if state.evaluation_due:
                    log.flush()
                    self._validate(models, best, state)
                if self.checkpoint_seconds is not None:
                    state.checkpoint_every(self.checkpoint_seconds)
        if team.world > 1:
            memory = self.instruments.memory
            memory.of_ranks([int(peak) for peak in team.each(memory.peaks().get(Phase.TRAIN.value, 0))])
        clocks.aside(False)
        clocks.enter("save")
        state_bytes = tensor_bytes(t for state in optimizer.state.values() for t in state.values())
        received = team.sum(torch.tensor([int(had_gradient(optimizer, p)) for p in named.values()]))
        without_gradient = frozenset(name for name, ranks in zip(named, received.tolist(), strict=True) if not ranks)
        remembered = frozenset(name for name, p in named.items() if below_rounding(optimizer, p))
        if isinstance(optimizer, LeanOptimizer):
            optimizer.release()
        del optimizer, state.optimizer  # before the best weights are loaded: the peak is that of training itself
        best.restore()
        team.gather()
        return Trained(
            steps=state.step,
            best_step=best.step or state.step,
            tokens=log.tokens,
            steady_tokens=log.steady_tokens,
            optimizer_bytes=state_bytes,
            without_gradient=without_gradient,
            below_rounding=remembered,
        )

    def _gradients(self, model: nn.Module, batches: Sequence[Sequence[int]]) -> tuple[torch.Tensor, int]:
        """Forward and backward over the batches of one step. Returns the mean loss (a scalar on the device) and the
        number of non-padding tokens.

        The mean is over the units of the step (items, or completion tokens), not over its batches: uneven batches are
        weighted by their units.
        """
        clocks, evaluate, task, team = self.instruments.clocks, self.evaluate, TASKS[self.task], self.team
        units = sum(self.train.units(indices) for indices in batches)
        tokens, losses = 0, torch.zeros((), device=evaluate.device)
        for indices, counts, last in team.share(batches):
            evaluate.between()
            clocks.enter("data")
            batch = task.collate(self.train, indices, evaluate.pad_token)
            batch = (without_padding(batch) if self.train.padding_free else batch).to(evaluate.device)
            device, factor = evaluate.device, team.factor(counts)
            with self.prefix.feeding(indices, batch), self.apart.of(batch), team.computing(model, last):
                loss = self.forward_and_back(task, model, batch, units, device, self.bf16, clocks.enter, factor)
            if counts:
                losses, tokens = losses + loss, tokens + batch.tokens
        return team.sum(losses), int(team.sum(torch.tensor(tokens)))

    def _followed(
        self,
        step: int,
        batches: Sequence[Sequence[int]],
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        due: bool,
    ) -> AbstractContextManager[None]:
        """Record a ledger of the step, if one is due."""
        if not due:
            return nullcontext()
        largest = max(batches, key=self.train.weight)
        size = (len(largest), max(self.train.lengths[i] for i in largest))
        ledgers, clocks = self.instruments.ledgers, self.instruments.clocks
        return ledgers.following(model, optimizer, lambda: _MOMENTS.get(clocks.running, "data"), step, size)

    def _evaluates(self, step: int) -> bool:
        every = self.arguments.eval_steps if self.arguments.eval_strategy == "steps" else self.steps_per_epoch
        return step == self.total_steps or step % (every or self.steps_per_epoch) == 0

    def _train_mode(self, models: Models) -> None:
        if self.team.sharded:  # the prefix knows the whole model only
            models.trained.train()
        else:
            self.prefix.train_mode()

    def _validate(self, models: Models, best: BestCheckpoint, state: Resumable) -> None:
        """Evaluate, keep the weights if they are the best, and return to training mode."""
        step = state.step
        last = step == self.total_steps
        if len(self.validation):
            self.instruments.enter(Phase.EVALUATE)
            predictions = TASKS[self.task].evaluate(models.evaluated, self.validation, self.evaluate, generate=False)
            epoch = step / self.steps_per_epoch
            evaluation = predictions.evaluation("adapted", "validation", self.metric, step, epoch)
            self.instruments.evaluated(evaluation)
            self.instruments.clocks.enter("save")
            best.consider(evaluation, last)
        state.evaluated()
        if not last:
            self.instruments.enter(Phase.TRAIN, self.total_steps)
            self._train_mode(models)


_MOMENTS: dict[ClockName, Moment] = {"forward": "forward", "backward": "backward", "optimizer": "optimizer"}


def dropout_seed(seed: int, rank: int) -> int:
    """Seed of a rank's own random numbers, by a hash: with `seed + rank`, rank 1 of one run would draw what rank 0 of
    the next seed draws."""
    return int.from_bytes(hashlib.sha256(f"{seed} {rank}".encode()).digest()[:8])
