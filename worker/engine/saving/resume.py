"""Going on where another attempt stopped: everything that the next step depends on, in files that can be checked.

    weights.safetensors     the parameters that train
    optimizer.safetensors   AdamW's moments and step of each: `NAME|exp_avg`, `NAME|exp_avg_sq`, `NAME|step`
    random.safetensors      state of torch's generators: `cpu`, and `cuda` on such a device
    companion.safetensors   what goes along with the method, where anything does
    best.safetensors        the best weights so far, where they are not the present ones
    metrics.jsonl           every step so far
    state.json              the rest, and the SHA-256 of each file above

The order of the data follows from seed and step, so it needs no file; the learning rate follows from the step. No
pickle: reading a checkpoint runs nobody's code. With the same library versions on the same device, a run that was
interrupted anywhere and resumed has the same losses, to the last digit, as one that was not.
"""

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from app.domain.failures import FailureCode, RunFailed
from app.domain.runs.checkpoint import STATE_FILE
from app.domain.runs.result import Evaluation
from worker.engine.memory.measured import tensor_bytes

KEPT = 2
"""Checkpoints that stay if nobody moves them away, as the supervisor does a second after it has heard of one."""


class State(BaseModel):
    """What is not a tensor."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    step: int
    """Optimizer steps done."""
    evaluation_due: bool
    """The attempt was stopped in the evaluation that follows this step."""
    tokens: int
    best: Evaluation | None
    since_best: int
    evaluations: list[Evaluation]
    """On the validation split, in order."""
    seconds: dict[str, float]
    """Clocks of the training so far."""
    device: str | None = None
    """`cpu` or `cuda`: what the peaks were measured on, each in its own way."""
    bf16: bool | None = None
    """Computed in bfloat16, with which every peak is another."""
    peaks: dict[str, int]
    """Bytes by phase so far."""
    files: dict[str, str] = {}
    """SHA-256 by name."""


class Checkpoints:
    """Writes an attempt's checkpoints into folders of their own, `STEP/`, and removes old ones."""

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
        """Write a whole checkpoint, and then give it its name: half of one is never seen. `files` are copied.

        Raises OSError or SafetensorError if the disk is full; the checkpoints before it stay, and nothing of this one.
        """
        whole, fresh = self._directory / str(state.step), self._directory / f"{state.step}.new"
        try:
            self._write(fresh, state, trainable, optimizer, random, companion, files)
            shutil.rmtree(whole, ignore_errors=True)
            fresh.rename(whole)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        left = [folder for folder in self._directory.iterdir() if folder.name.isdigit()]
        for old in sorted(left, key=lambda folder: int(folder.name))[:-KEPT]:
            shutil.rmtree(old, ignore_errors=True)
        return whole

    @staticmethod
    def _write(
        fresh: Path,
        state: State,
        trainable: Mapping[str, nn.Parameter],
        optimizer: torch.optim.Optimizer,
        random: Mapping[str, torch.Tensor],
        companion: Mapping[str, torch.Tensor],
        files: Mapping[str, Path],
    ) -> None:
        fresh.mkdir(parents=True)
        _save(fresh / "weights.safetensors", {name: p.detach() for name, p in trainable.items()})
        _save(fresh / "optimizer.safetensors", _moments(trainable, optimizer))
        _save(fresh / "random.safetensors", random)
        if companion:
            _save(fresh / "companion.safetensors", companion)
        for name, path in files.items():
            shutil.copyfile(path, fresh / name)
        hashes = {path.name: sha256(path) for path in sorted(fresh.iterdir())}
        (fresh / STATE_FILE).write_text(state.model_copy(update={"files": hashes}).model_dump_json(), encoding="utf-8")

    def room(self, trainable: Mapping[str, nn.Parameter]) -> bool:
        """Whether the disk holds another checkpoint: weights, two moments, the best weights."""
        return shutil.disk_usage(self._directory.parent).free > 4 * tensor_bytes(trainable.values())


class Checkpoint:
    """A checkpoint to go on from. Raises `RunFailed(internal)` if a file is not as it was written."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.state = State.model_validate_json((folder / STATE_FILE).read_bytes())
        for name, digest in self.state.files.items():
            if sha256(folder / name) != digest:
                raise RunFailed(FailureCode.INTERNAL, f"The checkpoint's {name} is corrupt.")

    def file(self, name: str) -> Path | None:
        """One of its files, if it has it."""
        return self._folder / name if name in self.state.files else None

    def restore(self, trainable: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
        """Put weights and moments back, tensor by tensor."""
        with torch.no_grad(), safe_open(self._folder / "weights.safetensors", framework="pt") as weights:
            for name, parameter in trainable.items():
                parameter.copy_(weights.get_tensor(name))
        with safe_open(self._folder / "optimizer.safetensors", framework="pt") as moments:
            for key in moments.keys():  # noqa: SIM118 — not a mapping
                name, _, kind = key.rpartition("|")
                parameter = trainable[name]
                optimizer.state[parameter][kind] = moments.get_tensor(key).to(parameter.device)

    def companion(self) -> dict[str, torch.Tensor]:
        """What the method's companion left."""
        file = self.file("companion.safetensors")
        return load_file(file) if file else {}

    def restore_random(self) -> None:
        """Set torch's generators."""
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
    """Of a file, in hex."""
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
