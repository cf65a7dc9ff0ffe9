"""The training loop, the same for every method: arms differ in which parameters require a gradient, and in that only.

AdamW (Loshchilov & Hutter 2017, arXiv 1711.05101) with torch's fused kernel. As in transformers, weight decay is kept
off biases and normalisation weights, which are the parameters with one dimension.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from app.domain.runs import Phase, TrainingArguments
from worker.engine.checkpoint import BestCheckpoint
from worker.engine.data import Examples, collate, training_order
from worker.engine.evaluate import Evaluator
from worker.engine.memory import tensor_bytes
from worker.engine.progress import Instruments
from worker.engine.schedule import factor, warmup
from worker.engine.steplog import StepLog


@dataclass(frozen=True)
class Trained:
    """What training leaves, beside the best weights in the model."""

    steps: int
    best_step: int
    tokens: int
    optimizer_bytes: int
    without_gradient: frozenset[str]
    """Trainable parameters that no gradient, or only a zero one, ever reached."""


@dataclass(frozen=True)
class Loop:
    """How to train: everything but the model."""

    arguments: TrainingArguments
    learning_rate: float
    """The peak rate."""
    train: Examples
    validation: Examples
    evaluate: Evaluator
    instruments: Instruments
    output: Path
    """Directory of metrics.jsonl and of the checkpoint."""

    @property
    def steps_per_epoch(self) -> int:
        """A step takes `gradient_accumulation_steps` batches; an epoch's last step takes what is left of them."""
        batches = math.ceil(len(self.train) / self.arguments.per_device_train_batch_size)
        return math.ceil(batches / self.arguments.gradient_accumulation_steps)

    @property
    def total_steps(self) -> int:
        """Optimizer steps until the end."""
        return self.arguments.max_steps or math.ceil(self.arguments.num_train_epochs * self.steps_per_epoch)

    def run(self, model: nn.Module) -> Trained:
        """Train, evaluate after every epoch and at the end, and put the best weights back into the model.

        Without validation rows the last weights are the best. Raises `RunFailed(diverged)` if a loss is not finite.
        """
        arguments, clocks, total = self.arguments, self.instruments.clocks, self.total_steps
        named = {name: p for name, p in model.named_parameters() if p.requires_grad}
        optimizer = adamw(named.values(), self.learning_rate, arguments.weight_decay)
        warmup_steps = warmup(arguments.warmup_steps, total)
        best = BestCheckpoint(self.output, model)
        # The same dropout for the same seed, whatever a method drew for its own weights.
        torch.manual_seed(arguments.seed)
        self.instruments.enter(Phase.TRAIN, total)
        with StepLog(self.output / "metrics.jsonl", self.steps_per_epoch, self.instruments) as log:
            model.train()
            for step, batches in enumerate(islice(self._steps(), total), start=1):
                rate = self.learning_rate * factor(step, total, warmup_steps, arguments.lr_scheduler_type)
                loss, tokens = self._gradients(model, batches)
                clocks.enter("optimizer")
                norm = clip(named.values(), arguments.max_grad_norm)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                optimizer.step()
                clocks.enter("data")
                log.add(step, loss, rate, norm, tokens)
                optimizer.zero_grad(set_to_none=True)
                if step % self.steps_per_epoch == 0 or step == total:
                    log.flush()
                    self._validate(model, best, step)
        clocks.enter("save")
        state_bytes = tensor_bytes(t for state in optimizer.state.values() for t in state.values())
        without_gradient = frozenset(name for name, p in named.items() if not _had_gradient(optimizer, p))
        del optimizer  # before the best weights are read back: the peak is training's own
        best.restore()
        return Trained(total, best.step or total, log.tokens, state_bytes, without_gradient)

    def _gradients(self, model: nn.Module, batches: Sequence[Sequence[int]]) -> tuple[torch.Tensor, int]:
        """Forward and backward over the batches of one step. Returns the mean loss (a scalar on the device) and the
        number of real tokens.

        The mean is over the rows of the step, not over its batches: uneven batches weigh by their rows.
        """
        clocks, device = self.instruments.clocks, self.evaluate.device
        rows, tokens, losses = sum(map(len, batches)), 0, torch.zeros((), device=device)
        for indices in batches:
            self.instruments.sink.raise_if_stopped()
            clocks.enter("data")
            batch = collate(self.train, indices, self.evaluate.pad_token).to(device)
            clocks.enter("forward")
            with torch.autocast(device.type, torch.bfloat16, enabled=self.arguments.bf16):
                logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
            loss = functional.cross_entropy(logits.float(), batch.labels, reduction="sum") / rows
            clocks.enter("backward")
            loss.backward()  # type: ignore[no-untyped-call]
            losses, tokens = losses + loss.detach(), tokens + batch.tokens
        return losses, tokens

    def _validate(self, model: nn.Module, best: BestCheckpoint, step: int) -> None:
        """Evaluate, keep the weights if they are the best, and go on training."""
        last = step == self.total_steps
        if len(self.validation):
            self.instruments.enter(Phase.EVALUATE)
            predictions = self.evaluate(model, self.validation)
            found = predictions.evaluation("adapted", "validation", step, step / self.steps_per_epoch)
            self.instruments.evaluated(found)
            self.instruments.clocks.enter("save")
            best.consider(found, last)
        if not last:
            self.instruments.enter(Phase.TRAIN, self.total_steps)
            model.train()

    def _steps(self) -> Iterator[list[list[int]]]:
        """The batches of each optimizer step, for ever."""
        size, together = self.arguments.per_device_train_batch_size, self.arguments.gradient_accumulation_steps
        for epoch in count():
            batches = training_order(self.train.lengths, size, self.arguments.seed, epoch)
            for start in range(0, len(batches), together):
                yield batches[start : start + together]


def adamw(parameters: Iterable[nn.Parameter], learning_rate: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW with decay on matrices only."""
    parameters = list(parameters)
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=learning_rate, fused=True)


def clip(parameters: Iterable[nn.Parameter], max_norm: float) -> torch.Tensor:
    """Scale the gradients down to `max_norm` if their norm exceeds it; 0 leaves them. Returns the norm before."""
    trained = [p for p in parameters if p.grad is not None]
    norm = get_total_norm([p.grad for p in trained if p.grad is not None])
    # On a CPU the norm is known, and gradients within it need no multiplication by one. On CUDA asking would wait.
    if max_norm > 0 and (norm.device.type != "cpu" or norm > max_norm):
        clip_grads_with_norm_(trained, max_norm, norm)
    return norm


def _had_gradient(optimizer: torch.optim.AdamW, parameter: nn.Parameter) -> bool:
    """Adam's first moment is a weighted mean of all gradients: zeros mean that all of them were."""
    state = optimizer.state.get(parameter, {})
    return "exp_avg" in state and bool(torch.count_nonzero(state["exp_avg"]))
