"""Checkpoint files: everything that the next step depends on, with checksums.

    weights.safetensors     the trainable parameters
    optimizer.safetensors   state of the optimizer, of AdamW `NAME|exp_avg`, `NAME|exp_avg_sq` and `NAME|step`
    random.safetensors      state of torch's generators: `cpu`, and `cuda` on such a device
    companion.safetensors   state of the method's companion, if it has one
    best.safetensors        the best weights so far, unless they are the current ones
    metrics.jsonl           the metrics of every step so far
    state.json              everything else, and the SHA-256 of each file above

The data order follows from seed and step, and the learning rate from the step, so neither is stored. No pickle: reading
a checkpoint executes no code. With the same library versions on the same CPU, a run that was interrupted anywhere and
resumed has bit-identical losses to one that was not; on CUDA they are equal but for rounding
(`worker.engine.environment.prepare`).
"""

import hashlib
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from app.domain.failures import FailureCode, RunFailed
from app.domain.messages import _
from app.domain.runs.checkpoint import STATE_FILE
from app.domain.runs.result import Evaluation
from worker.engine.memory.measured import tensor_bytes
from worker.engine.step import expected_state_bytes

LARGE = 2**30
"""Bytes of a checkpoint from which its time is estimated beforehand; a smaller one takes seconds."""
_RATE_BYTES, _PART_BYTES = 64 * 2**20, 2**20
KEPT = 2
"""Checkpoints to keep if they are not moved away; the supervisor moves one within a second of its report."""


class State(BaseModel):
    """The state that is not a tensor."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    step: int
    """Completed optimizer steps."""
    evaluation_due: bool
    """The attempt was stopped during the evaluation that follows this step."""
    tokens: int
    steady_tokens: int | None = None
    """Of these, in steps that were not measured; None in older checkpoints, whose clocks do not tell them apart."""
    best: Evaluation | None
    since_best: int
    evaluations: list[Evaluation]
    """Evaluations on the validation split, in order."""
    seconds: dict[str, float]
    """Clocks of the training so far."""
    device: str | None = None
    """`cpu` or `cuda`: peaks of the two are measured differently and cannot be combined."""
    bf16: bool | None = None
    """Computed in bfloat16, which changes every memory peak."""
    order: str | None = None
    """`DataSeen.order` of the attempt: from another order a run cannot resume. None in older checkpoints."""
    peaks: dict[str, int]
    """Peak bytes by phase so far."""
    files: dict[str, str] = {}
    """SHA-256 by file name."""


class Checkpoints:
    """Writes an attempt's checkpoints into folders `STEP/`, and removes old ones."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def save(
        self,
        state: State,
        trainable: Mapping[str, nn.Parameter],
        optimizer: torch.optim.Optimizer,
        random: Mapping[str, torch.Tensor],
        companion: Mapping[str, torch.Tensor],
        files: Mapping[str, Path],
    ) -> Path:
        """Write a complete checkpoint under a temporary name, then rename it, so that a partial one is never visible.
        `files` are copied.

        Raises OSError or SafetensorError if the disk is full; earlier checkpoints stay, and nothing of this one.
        """
        complete, fresh = self._directory / str(state.step), self._directory / f"{state.step}.new"
        try:
            fresh.mkdir(parents=True)
            _save(fresh / "weights.safetensors", {name: p.detach() for name, p in trainable.items()})
            _save(fresh / "optimizer.safetensors", _moments(trainable, optimizer))
            _save(fresh / "random.safetensors", random)
            if companion:
                _save(fresh / "companion.safetensors", companion)
            for name, path in files.items():
                shutil.copyfile(path, fresh / name)
            hashes = {path.name: sha256(path) for path in sorted(fresh.iterdir())}
            content = state.model_copy(update={"files": hashes}).model_dump_json()
            (fresh / STATE_FILE).write_text(content, encoding="utf-8")
            shutil.rmtree(complete, ignore_errors=True)
            fresh.rename(complete)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        left = [folder for folder in self._directory.iterdir() if folder.name.isdigit()]
        for old in sorted(left, key=lambda folder: int(folder.name))[:-KEPT]:
            shutil.rmtree(old, ignore_errors=True)
        return complete

    def expected_bytes(self, trainable: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> int:
        """Bytes of a checkpoint: weights, best weights and the optimizer's state, as it is after the first step."""
        held = tensor_bytes(t for state in optimizer.state.values() for t in state.values())
        return 2 * tensor_bytes(trainable.values()) + (held or expected_state_bytes(optimizer))

    def room(self, trainable: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> bool:
        """Whether the disk has room for another checkpoint."""
        return shutil.disk_usage(self._directory.parent).free > self.expected_bytes(trainable, optimizer)

    def seconds(self, size: int) -> float:
        """Seconds that a checkpoint of so many bytes takes, measured by writing and hashing a small file. Raises
        OSError."""
        self._directory.mkdir(parents=True, exist_ok=True)
        file = self._directory / "rate.new"
        began = time.monotonic()
        try:
            with file.open("wb") as opened:
                for _part in range(_RATE_BYTES // _PART_BYTES):
                    opened.write(bytes(_PART_BYTES))
                opened.flush()
                os.fsync(opened.fileno())
            sha256(file)
            return (time.monotonic() - began) * size / _RATE_BYTES
        finally:
            file.unlink(missing_ok=True)


class Checkpoint:
    """A checkpoint to resume from. Raises `RunFailed(internal)` if a file's checksum is wrong."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.state = State.model_validate_json((folder / STATE_FILE).read_bytes())
        for name, digest in self.state.files.items():
            if sha256(folder / name) != digest:
                raise RunFailed(FailureCode.INTERNAL, _("The checkpoint's %(name)s is corrupt.", name=name))

    def file(self, name: str) -> Path | None:
        """Path of one of its files, or None."""
        return self._folder / name if name in self.state.files else None

    def restore(self, trainable: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
        """Load weights and moments, tensor by tensor."""
        with torch.no_grad(), safe_open(self._folder / "weights.safetensors", framework="pt") as weights:
            for name, parameter in trainable.items():
                parameter.copy_(weights.get_tensor(name))
        with safe_open(self._folder / "optimizer.safetensors", framework="pt") as moments:
            for key in moments.keys():  # noqa: SIM118 — not a mapping
                name, _, kind = key.rpartition("|")
                parameter = trainable[name]
                optimizer.state[parameter][kind] = moments.get_tensor(key).to(parameter.device)

    def companion(self) -> dict[str, torch.Tensor]:
        """State of the method's companion."""
        file = self.file("companion.safetensors")
        return load_file(file) if file else {}

    def restore_random(self) -> None:
        """Restore torch's generators."""
        states = load_file(self._folder / "random.safetensors")
        torch.set_rng_state(states["cpu"])
        if "cuda" in states and torch.cuda.is_available():
            torch.cuda.set_rng_state(states["cuda"])


def random_state(device: torch.device) -> dict[str, torch.Tensor]:
    """State of the generators that training draws from."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _moments(trainable: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    return {
        f"{name}|{kind}": value
        for name, parameter in trainable.items()
        for kind, value in optimizer.state.get(parameter, {}).items()
    }


def _save(file: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file)
