"""The best weights so far, on disk: only what trains, so that memory holds no second copy of a model."""

import shutil
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from app.domain.errors import RunFailed
from app.domain.metrics import Evaluation
from app.domain.runs import FailureCode
from worker.engine.memory import tensor_bytes


class BestCheckpoint:
    """Keeps the weights with the best validation accuracy, then the lowest loss, then the earliest."""

    def __init__(self, directory: Path, model: nn.Module) -> None:
        """Raises `RunFailed(disk_full)` unless the disk has room for a checkpoint and its successor."""
        self._file = directory / ".best.safetensors"
        self._trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._best: Evaluation | None = None
        self._stored = False
        needed, free = 2 * tensor_bytes(self._trainable.values()), shutil.disk_usage(directory).free
        if needed > free:
            raise RunFailed(
                FailureCode.DISK_FULL,
                f"Checkpoints need {needed / 2**30:.2f} GiB and the worker's disk has {free / 2**30:.2f} GiB left.",
            )

    @property
    def step(self) -> int | None:
        """Optimizer steps behind the best weights; None before the first evaluation."""
        return self._best.step if self._best else None

    def consider(self, evaluation: Evaluation, last: bool) -> None:
        """Keep the present weights if they are the best so far. Those of the `last` evaluation need no file."""
        if self._best is not None and _rank(evaluation) <= _rank(self._best):
            return
        self._best = evaluation
        self._stored = not last
        if self._stored:
            # Beside the old file and then over it: a full disk leaves the old one whole.
            fresh = self._file.with_suffix(".new")
            save_file({name: p.detach() for name, p in self._trainable.items()}, fresh)
            fresh.replace(self._file)

    def restore(self) -> None:
        """Put the best weights back into the model, one tensor at a time, and remove the file."""
        if self._stored:
            with torch.no_grad(), safe_open(self._file, framework="pt") as stored:
                for name, parameter in self._trainable.items():
                    parameter.copy_(stored.get_tensor(name))
        self._file.unlink(missing_ok=True)


def _rank(evaluation: Evaluation) -> tuple[float, float]:
    return evaluation.accuracy, -evaluation.loss
