"""The best weights so far, on disk: only the trainable ones, so that no second copy of the model is in memory."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from app.domain.runs.result import Evaluation
from worker.engine.memory.measured import tensor_bytes
from worker.engine.ranks.sharded import local
from worker.engine.ranks.team import Team
from worker.machine import disk


class BestCheckpoint:
    """Keeps the weights with the best validation result; of equal ones, the earliest."""

    def __init__(
        self, directory: Path, model: nn.Module, by: Literal["metric", "loss"], team: Team | None = None
    ) -> None:
        """`by`: the highest metric, ties broken by the lowest loss, or the lowest loss alone. Of replicas only rank 0
        keeps weights; of a sharded model each rank keeps its part. Raises `RunFailed(disk_full)` unless the disk has
        room for two copies."""
        self._team = team or Team()
        self.file = directory / ".best.safetensors"
        self._trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._by = by
        self._best: Evaluation | None = None
        self.since_best = 0
        """Consecutive evaluations without improvement."""
        self.stored = False
        """The best weights are in `file`."""
        needed = 2 * tensor_bytes(self._trainable.values()) * self._team.parts
        if needed > shutil.disk_usage(directory).free:
            raise disk.full(directory, needed)

    @property
    def step(self) -> int | None:
        """Optimizer step of the best weights; None before the first evaluation."""
        return self._best.step if self._best else None

    @property
    def evaluation(self) -> Evaluation | None:
        return self._best

    def resume(self, best: Evaluation | None, since_best: int, write: Callable[[Path], object] | None) -> None:
        """Continue from a checkpoint; `write` writes its best weights to a file, unless they are the current ones."""
        self._best, self.since_best, self.stored = best, since_best, False
        if write is not None and self._team.writes:
            write(self.file)
            self.stored = True

    def consider(self, evaluation: Evaluation, last: bool) -> None:
        """Keep the current weights if they are the best so far, by rank 0's evaluation. Those of the `last` evaluation
        need no file."""
        worse = self._best is not None and self._rank(evaluation) <= self._rank(self._best)
        if self._team.agree(worse and self._team.leads):
            self.since_best += 1
            return
        self._best, self.since_best = evaluation, 0
        self.stored = self._team.writes and not last
        if self.stored:
            # Written beside the old file and then renamed: a full disk leaves the old one intact.
            fresh = self.file.with_suffix(".new")
            save_file({name: local(p.detach()) for name, p in self._trainable.items()}, fresh)
            fresh.replace(self.file)

    def restore(self) -> None:
        """Load the best weights back into the model, one tensor at a time, and remove the file. Replicas keep their
        last weights: rank 0 alone evaluates and saves what follows."""
        if self.stored:
            with torch.no_grad(), safe_open(self.file, framework="pt") as stored:
                for name, parameter in self._trainable.items():
                    local(parameter).copy_(stored.get_tensor(name))
        self.file.unlink(missing_ok=True)

    def _rank(self, evaluation: Evaluation) -> tuple[float, float]:
        metric = evaluation.score if self._by == "metric" else None
        return metric or 0.0, -evaluation.loss
