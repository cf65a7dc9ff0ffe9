"""Checkpoint files: everything that the next step depends on, with checksums.

    weights.safetensors     the trainable parameters
    optimizer.safetensors   state of the optimizer, of AdamW `NAME|exp_avg`, `NAME|exp_avg_sq` and `NAME|step`
    random.safetensors      state of torch's generators: `cpu`, and `cuda` on such a device
    companion.safetensors   state of the method's companion, if it has one
    best.safetensors        the best weights so far, unless they are the current ones
    metrics.jsonl           the metrics of every step so far
    state.json              everything else, and the SHA-256 of each file above

A run on several devices adds `random-1.safetensors` and so on, one for each further process. Where each process holds
a part of every tensor, `weights`, `optimizer` and `best` have such a file for each too, with the rows of its rank, in
order: another number of processes reads the rows that it needs. So the global batch, which is the same on any number of
devices, resumes on any.

The data order follows from seed and step, and the learning rate from the step, so neither is stored. No pickle: reading
a checkpoint executes no code. With the same library versions on the same CPU, a run that was interrupted anywhere and
resumed has bit-identical losses to one that was not; on CUDA they are equal except for rounding
(`worker.engine.device.environment.prepare`).
"""

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torch.distributed.tensor import DTensor

from app.domain.failures import FailureCode, RunFailed
from app.domain.messages import _
from app.domain.runs.checkpoint import STATE_FILE
from app.domain.runs.result import Evaluation
from worker.engine.loop.step import expected_state_bytes
from worker.engine.memory.measured import tensor_bytes
from worker.engine.ranks.sharded import local, rows, sharded_like
from worker.engine.ranks.team import Team
from worker.engine.saving.artifacts import sha256_of

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
    """Those of `tokens` in steps whose memory was not recorded; None in older checkpoints, whose clocks do not separate
    them."""
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
    trained_together: int = 1
    """Runs that clocks and peaks are of: those of the group, if the run has trained in one."""
    parts: int = 1
    """Files that share the rows of every weight."""
    files: dict[str, str] = {}
    """SHA-256 by file name."""


class Checkpoints:
    """Writes an attempt's checkpoints into folders `STEP/`, and removes old ones."""

    def __init__(self, directory: Path, team: Team | None = None) -> None:
        """The directory is that of all ranks of this host."""
        self._directory, self._team = directory, team or Team()

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
        team = self._team
        try:
            with team.writing():
                if team.leads:
                    fresh.mkdir(parents=True)
            with team.writing():
                _save(fresh / part("random", team.rank), random)
                if team.writes:
                    weights = {name: local(p.detach()) for name, p in trainable.items()}
                    _save(fresh / part("weights", team.rank), weights)
                    _save(fresh / part("optimizer", team.rank), _moments(trainable, optimizer, team.leads))
                    for name, path in files.items():
                        shutil.copyfile(path, fresh / name)
                if companion and team.leads:
                    _save(fresh / "companion.safetensors", companion)
            if not team.leads:
                return complete
            hashes = {path.name: sha256_of(path) for path in sorted(fresh.iterdir())}
            content = state.model_copy(update={"files": hashes}).model_dump_json()
            (fresh / STATE_FILE).write_text(content, encoding="utf-8")
            shutil.rmtree(complete, ignore_errors=True)
            fresh.rename(complete)
        finally:
            if team.leads:
                shutil.rmtree(fresh, ignore_errors=True)
        left = [folder for folder in self._directory.iterdir() if folder.name.isdigit()]
        for old in sorted(left, key=lambda folder: int(folder.name))[:-KEPT]:
            shutil.rmtree(old, ignore_errors=True)
        return complete

    def expected_bytes(self, trainable: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> int:
        """Bytes of a checkpoint with the parts of all ranks: weights, best weights and the optimizer's state, as it is
        after the first step. Of a sharded model all parts count as large as this rank's."""
        held = tensor_bytes(t for state in optimizer.state.values() for t in state.values())
        own = 2 * tensor_bytes(trainable.values()) + (held or expected_state_bytes(optimizer))
        return own * self._team.parts

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
            sha256_of(file)
            return (time.monotonic() - began) * size / _RATE_BYTES
        finally:
            file.unlink(missing_ok=True)


class Checkpoint:
    """A checkpoint to resume from. Raises `RunFailed(internal)` if a file's checksum is wrong."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.state = State.model_validate_json((folder / STATE_FILE).read_bytes())
        for name, digest in self.state.files.items():
            if sha256_of(folder / name) != digest:
                raise RunFailed(FailureCode.INTERNAL, _("The checkpoint's %(name)s is corrupt.", name=name))

    def file(self, name: str) -> Path | None:
        """Path of one of its files, or None."""
        return self._folder / name if name in self.state.files else None

    def restore(self, trainable: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
        """Load weights and moments, tensor by tensor; of sharded ones the rows of this rank."""
        with torch.no_grad(), self._opened("weights") as weights:
            for name, parameter in trainable.items():
                local(parameter).copy_(_rows(weights, name, parameter))
        # As torch keeps `step`: on the device for kernels that read it there, else on the CPU, where reading is free.
        scalars = {
            parameter: parameter.device if group.get("fused") or group.get("capturable") else torch.device("cpu")
            for group in optimizer.param_groups
            for parameter in group["params"]
        }
        with self._opened("optimizer") as moments:
            for key in moments[0].keys():  # noqa: SIM118 — not a mapping
                name, _, kind = key.rpartition("|")
                parameter = trainable[name]
                moment = _rows(moments, key, parameter)
                state = sharded_like(moment, parameter) if moment.ndim else moment.to(scalars[parameter])
                optimizer.state[parameter][kind] = state

    def best(self, trainable: Mapping[str, nn.Parameter]) -> Callable[[Path], object] | None:
        """Writes the best weights to a file, unless they are the current ones."""
        file = self.file("best.safetensors")
        if file is None:
            return None

        def write(target: Path) -> None:
            with self._opened("best") as stored:
                save_file({name: _rows(stored, name, parameter) for name, parameter in trainable.items()}, target)

        whole = self.state.parts == 1 and not any(isinstance(p, DTensor) for p in trainable.values())
        return partial(shutil.copyfile, file) if whole else write

    @contextmanager
    def _opened(self, name: str) -> Iterator[list[Any]]:
        """The files that share the rows of each tensor."""
        with ExitStack() as stack:
            paths = [self._folder / part(name, rank) for rank in range(self.state.parts)]
            yield [stack.enter_context(safe_open(path, framework="pt")) for path in paths]

    def companion(self) -> dict[str, torch.Tensor]:
        file = self.file("companion.safetensors")
        return load_file(file) if file else {}

    def restore_random(self, rank: int = 0) -> None:
        """Restore torch's generators; those of a rank that had no part in the checkpoint stay as they are."""
        file = self.file(part("random", rank))
        if file is None:
            return
        set_random_state(load_file(file))


def random_state(device: torch.device) -> dict[str, torch.Tensor]:
    """State of the generators that training draws from."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def set_random_state(states: Mapping[str, torch.Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


def part(name: str, rank: int) -> str:
    """Name of the file with a rank's part."""
    return f"{name}-{rank}.safetensors" if rank else f"{name}.safetensors"


def _rows(files: Sequence[Any], key: str, like: torch.Tensor) -> torch.Tensor:
    """The rows of a tensor that this rank holds of `like`, from files that share them."""
    first = files[0].get_slice(key)
    if not first.get_shape() or (len(files) == 1 and not isinstance(like, DTensor)):
        tensor: torch.Tensor = files[0].get_tensor(key)
        return tensor
    wanted, start = rows(like), 0
    pieces = [first[0:0]]
    for file in files:
        piece = file.get_slice(key)
        count = piece.get_shape()[0]
        begin, end = max(wanted.start - start, 0), min(wanted.stop - start, count)
        if begin < end:
            pieces.append(piece[begin:end])
        start += count
    return torch.cat(pieces)


def _moments(
    trainable: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer, leads: bool
) -> dict[str, torch.Tensor]:
    """The optimizer's state as `NAME|KIND`; a rank that does not lead returns only its sharded tensors."""
    return {
        f"{name}|{kind}": local(value)
        for name, parameter in trainable.items()
        for kind, value in optimizer.state.get(parameter, {}).items()
        if leads or isinstance(value, DTensor)
    }


def _save(file: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file)


def usable_checkpoint(folder: str | None, order: str, log: Callable[[str], None]) -> Checkpoint | None:
    """The checkpoint in a folder, if it was trained on the rows in this order (`DataSeen.order`)."""
    checkpoint = Checkpoint(Path(folder)) if folder else None
    if checkpoint is None or checkpoint.state.order == order:
        return checkpoint
    why = "this version of Vezna trains on the rows in another order"
    log(f"The checkpoint of step {checkpoint.state.step} is unusable: {why}. The run starts again.")
    return None
