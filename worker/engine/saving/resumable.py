"""The training state that a checkpoint must contain, and when to write one."""

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import nn

from worker.engine.loop.progress import Instruments, Stopped
from worker.engine.methods import Companion
from worker.engine.ranks.team import Team
from worker.engine.saving.best_weights import BestCheckpoint
from worker.engine.saving.resume import LARGE, Checkpoint, Checkpoints, State, part, random_state
from worker.engine.saving.steplog import StepLog


class Resumable:
    """The state of a training. An interrupted step is discarded."""

    def __init__(
        self,
        trainable: Mapping[str, nn.Parameter],
        optimizer: torch.optim.Optimizer,
        companion: Companion | None,
        best: BestCheckpoint,
        log: StepLog,
        instruments: Instruments,
        device: torch.device,
        output: Path,
        bf16: bool,
        order: str,
        team: Team,
    ) -> None:
        """`output`: a directory that all ranks share."""
        self.optimizer = optimizer
        self.step = 0
        """Completed optimizer steps."""
        self.first = 1
        """The first step of this attempt."""
        self.evaluation_due = False
        """The evaluation that follows this step has not run yet."""
        self._trainable, self._companion, self._best, self._log = trainable, companion, best, log
        self._instruments, self._device, self._bf16 = instruments, device, bf16
        self._order, self._team = order, team
        self._checkpoints = Checkpoints(output / ".checkpoints", team)
        self._random = random_state(device)
        self._saved_at = time.monotonic()

    def end_step(self, *, evaluation_due: bool) -> None:
        """Record a completed step. If the next one is interrupted, it is repeated from the present generator states."""
        self.step += 1
        self.evaluation_due = evaluation_due
        self._random = random_state(self._device)

    def evaluated(self) -> None:
        """Record that the evaluation after the step has run."""
        self.evaluation_due = False
        self._random = random_state(self._device)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Resume from a checkpoint. Its steps and evaluations are reported again, so that this attempt's record is
        complete."""
        state = checkpoint.state
        checkpoint.restore(self._trainable, self.optimizer)
        if self._companion is not None:
            self._companion.restore(checkpoint.companion())
        self._best.resume(state.best, state.since_best, checkpoint.best(self._trainable))
        self._instruments.clocks.carry(state.seconds)
        self._instruments.trained_together = max(self._instruments.trained_together, state.trained_together)
        if (state.device, state.bf16) == (self._device.type, self._bf16):
            self._instruments.memory.carry(state.peaks)
        else:
            self._instruments.sink.log(
                f"The checkpoint was written on {_named(state.device, state.bf16)} and training resumes on "
                f"{_named(self._device.type, self._bf16)}: its memory peaks are ignored."
            )
        steady = state.tokens if state.steady_tokens is None else state.steady_tokens
        self._log.resume(checkpoint.file("metrics.jsonl"), state.tokens, steady)
        for evaluation in state.evaluations:
            self._instruments.evaluated(evaluation)
        self.step, self.first, self.evaluation_due = state.step, state.step + 1, state.evaluation_due
        self._instruments.sink.log(f"Resuming from the checkpoint of step {state.step}.")
        checkpoint.restore_random(self._team.rank)
        self._random = random_state(self._device)

    @contextmanager
    def left_when_stopped(self) -> Iterator[None]:
        """Write a checkpoint of the last completed step when the code inside is asked to stop."""
        try:
            yield
        except Stopped:
            self.checkpoint()
            raise

    def check_time(self, seconds: float | None) -> None:
        """Log a warning if a checkpoint will take longer to write than the run is given when it is told to stop. Rank 0
        measures, for all."""
        size = self._checkpoints.expected_bytes(self._trainable, self.optimizer)
        if seconds is None or size < LARGE or not self._team.leads:
            return
        try:
            needed = self._checkpoints.seconds(size)
        except OSError:  # the checkpoint itself will say so
            return
        if needed > seconds:
            self._instruments.sink.log(
                f"A checkpoint of this run has {size / 1e9:.1f} GB and takes about {needed:.0f} s to write here, and a "
                f"trainer that is told to stop is killed after {seconds:.0f} s: what it has trained since its last "
                f"regular checkpoint is then trained again. Set VEZNA_STOP_SECONDS to {_rounded_up(needed)} or more, "
                "and a container's grace period above it."
            )

    def checkpoint_every(self, seconds: float) -> None:
        """Write a checkpoint if the last one is older than the configured interval."""
        if self._team.agree(time.monotonic() - self._saved_at >= seconds):
            self.checkpoint()

    def checkpoint(self) -> None:
        """Write and report a checkpoint. A full disk costs the checkpoint, not the run."""
        running = self._instruments.clocks.running
        self._instruments.clocks.enter("save")
        try:
            if not self.step:
                return
            with self._team.writing():
                if not self._checkpoints.room(self._trainable, self.optimizer):
                    raise OSError("the disk is nearly full")
            self._log.flush()
            folder = self._checkpoints.save(
                self._state(), self._trainable, self.optimizer, self._random, self._left_by_companion(), self._files()
            )
            self._instruments.sink.checkpoint(self.step, folder)
        except (OSError, SafetensorError) as error:  # `save_file` raises the latter when the disk is full
            self._instruments.sink.log(f"No checkpoint at step {self.step}: {error}.")
        finally:
            self._saved_at = time.monotonic()
            self._instruments.clocks.enter(running)

    def _state(self) -> State:
        return State(
            step=self.step,
            evaluation_due=self.evaluation_due,
            tokens=self._log.tokens,
            steady_tokens=self._log.steady_tokens,
            best=self._best.evaluation,
            since_best=self._best.since_best,
            evaluations=[e for e in self._instruments.evaluations if e.split == "validation"],
            seconds=self._instruments.clocks.of_training(),
            peaks=self._instruments.memory.peaks(),
            trained_together=self._instruments.trained_together,
            device=self._device.type,
            bf16=self._bf16,
            order=self._order,
            parts=self._team.parts,
        )

    def _left_by_companion(self) -> dict[str, torch.Tensor]:
        return self._companion.state() if self._companion is not None else {}

    def _files(self) -> dict[str, Path]:
        files = {"metrics.jsonl": self._log.file} if self._team.leads else {}
        return files | ({part("best", self._team.rank): self._best.file} if self._best.stored else {})


def _rounded_up(seconds: float) -> int:
    """Add a third as reserve, and round up to tens of seconds."""
    return math.ceil(seconds * 4 / 3 / 10) * 10


def _named(device: str | None, bf16: bool | None) -> str:
    precision = {None: "", True: " in bfloat16", False: " in float32"}[bf16]
    return f"{device or 'an unknown device'}{precision}"
