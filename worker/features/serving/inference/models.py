"""The loaded models. Runs of one base model share its tensors; a run that trained all weights has its own.

    view    a module tree of its own whose parameters have the base model's storage: what a method adds to its modules
            belongs to the view alone
    own     the parameters that a run saved, and the head, which get storage of their own before they are loaded

What a run saved beside its base model is refused if a tensor is missing or is ignored (`worker.engine.models.trained`).
"""

import copy
import gc
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from app.features.serving.rules import ModelJob, too_large
from worker.engine.loop.clocks import Stopwatch
from worker.engine.loop.progress import Instruments, Silence
from worker.engine.memory.measured import MemoryMeter
from worker.engine.models.architecture import head_names
from worker.engine.models.hub.access import acting_for
from worker.engine.models.hub.hub import fetch_model
from worker.engine.models.load import load_processor, new_head
from worker.engine.models.precision import convert_parameters
from worker.engine.models.trained import attach, base_model, whole_model

MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")
WORKING_BYTES = 256 << 20
"""Beside the weights: activations, keys and values, logits (docs/playground.md)."""
NO_LIMIT = 2**62


def available_bytes() -> int:
    """What the kernel can give without swapping (man 5 proc, MemAvailable), and what is left of the limit of this
    process's control group: its limit, less what it uses without the file cache that it can drop."""
    return min(_machine(), _group())


def _machine() -> int:
    try:
        lines = MEMINFO.read_text().splitlines()
    except OSError:  # not Linux
        return NO_LIMIT
    known = {name: value for name, _colon, value in (line.partition(":") for line in lines)}
    return int(known["MemAvailable"].split()[0]) << 10 if "MemAvailable" in known else NO_LIMIT


def _group() -> int:
    with suppress(OSError, ValueError, KeyError):  # no control group of its own, or no limit
        limit, used = (int((CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
        facts = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
        return max(0, limit - used + int(facts["inactive_file"]))
    return NO_LIMIT


BaseKey = tuple[object, ...]
Loading = Callable[[int, int], None]
"""Called before a subject is loaded, with its place and the bytes that this is predicted to take."""
PEFT_PREFIX = "base_model.model."
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class SpoiltBase(Exception):
    """Attaching what a run saved has changed the tensors that it shares."""


@dataclass
class Held:
    """A loaded model; the `base` of a base model is its own key."""

    job: ModelJob
    model: Any
    tokenizer: PreTrainedTokenizerBase
    """For a model that reads images its image processor."""
    bytes: int
    base: BaseKey | None
    """The base model whose tensors it shares."""
    used_at: float = field(default_factory=time.monotonic)


class Models:
    """Loads models, and unloads those that were not used for the longest time when memory is short."""

    def __init__(self, available: Callable[[], int] = available_bytes) -> None:
        self._available = available
        self._bases: dict[BaseKey, Held] = {}
        self._held: dict[str, Held] = {}

    @property
    def keys(self) -> list[str]:
        return sorted(self._held)

    @property
    def bytes(self) -> int:
        """Bytes of all parameters; shared parameters count once."""
        return sum(held.bytes for held in (*self._bases.values(), *self._held.values()))

    def ready(
        self,
        jobs: Sequence[ModelJob],
        reserved_bytes: int,
        loading: Loading,
        between: Callable[[], None],
    ) -> list[Held]:
        """The models of some jobs, in their order. `between` may raise to stop a download.

        Raises `Unavailable` with the numbers if they do not fit beside `reserved_bytes`, and `RunFailed`.
        """
        self._drop_changed(jobs)
        self._make_room(jobs, reserved_bytes)
        while lacking := [job for job in jobs if job.key not in self._held]:  # loading one unloads others (`_load`)
            loading(jobs.index(lacking[0]), self.predicted(lacking[:1]))
            self._held[lacking[0].key] = self._load(lacking[0], between)
        ready = [self._held[job.key] for job in jobs]
        for held in ready:
            held.used_at = time.monotonic()
            if held.base is not None:
                self._bases[held.base].used_at = held.used_at
        return ready

    def predicted(self, jobs: Iterable[ModelJob]) -> int:
        """Bytes that loading them takes beyond what is loaded."""
        total, counted = 0, set(self._bases)
        for job in {job.key: job for job in jobs}.values():
            if job.key in self._held:
                continue
            key = _base_key(job)
            if job.whole:
                total += job.base_bytes
                continue
            total += job.own_bytes + (0 if key in counted else job.base_bytes)
            counted.add(key)
        return total

    def unload(self, unused_since: float) -> None:
        """Unload what was not used since a moment (monotonic seconds)."""
        for key in [key for key, held in self._held.items() if held.used_at < unused_since]:
            del self._held[key]
        self._drop_bases(())

    def _drop_changed(self, jobs: Sequence[ModelJob]) -> None:
        """Unload what was loaded with another access to the hub: the token was removed or replaced, or the run has
        another owner. A model that a run saved as a whole needs none."""
        for job in jobs:
            held = self._held.get(job.key)
            if held is not None and not job.whole and held.job.hub != job.hub:
                del self._held[job.key]
                self._drop_bases(())

    def _make_room(self, jobs: Sequence[ModelJob], reserved: int) -> None:
        needed = self.predicted(jobs)
        if not needed:
            return
        needed += WORKING_BYTES
        wanted, bases = {job.key for job in jobs}, {_base_key(job) for job in jobs if not job.whole}
        others = sorted((h for k, h in self._held.items() if k not in wanted), key=lambda held: held.used_at)
        while (free := max(0, self._available() - reserved)) < needed:
            if not others:
                raise too_large(needed, free, reserved)
            del self._held[others.pop(0).job.key]
            self._drop_bases(bases)

    def _drop_bases(self, wanted: Collection[BaseKey]) -> None:
        """Unload base models that no loaded model shares."""
        shared = {held.base for held in self._held.values()} | set(wanted)
        for key in [key for key in self._bases if key not in shared]:
            del self._bases[key]
        gc.collect()  # a model holds references to itself

    def _load(self, job: ModelJob, between: Callable[[], None]) -> Held:
        dtype = DTYPES[job.dtype]
        if job.whole:
            tokenizer = load_processor(Path(job.weights), job.job.spec.task)
            return Held(job, whole_model(job.job, job.weights, dtype), tokenizer, job.base_bytes, None)
        key = _base_key(job)
        if key not in self._bases:
            self._bases[key] = self._base(job, between)
        base = self._bases[key]
        try:
            return Held(job, _adapted(job, base.model, dtype), base.tokenizer, job.own_bytes, key)
        except SpoiltBase:  # its model gets a base model of its own; the models that share the spoilt one are unloaded
            self._held = {k: held for k, held in self._held.items() if held.base != key}
            del self._bases[key]
            alone = self._base(job, between)
            model = _ready(attach(alone.model, job.job, job.weights), dtype)
            return Held(job, model, alone.tokenizer, job.base_bytes + job.own_bytes, None)

    def _base(self, job: ModelJob, between: Callable[[], None]) -> Held:
        cpu = torch.device("cpu")
        instruments = Instruments(_Watched(between), Stopwatch(job.job.claimed_at, cpu), MemoryMeter(cpu))
        with acting_for(job.hub):
            fetched = fetch_model(job.job, instruments)
        model, tokenizer = base_model(fetched, DTYPES[job.dtype])
        return Held(job, model.requires_grad_(False), tokenizer, job.base_bytes, _base_key(job))


class _Watched(Silence):
    """Stops a download."""

    def __init__(self, between: Callable[[], None]) -> None:
        self._between = between

    def raise_if_stopped(self) -> None:
        self._between()


def _base_key(job: ModelJob) -> BaseKey:
    """The same for runs whose base model has the same tensors, but for the head."""
    j = job.job
    # job.hub: a model that opens to one user's token is shared with no other token
    return j.model_location, j.model_revision, j.model_fingerprint, j.spec.task, tuple(j.labels), job.dtype, job.hub


def _adapted(job: ModelJob, base: PreTrainedModel, dtype: torch.dtype) -> nn.Module:
    """The run's model as a view of the base model. Raises `SpoiltBase`."""
    heads = head_names(base, job.job.spec.task)
    prefixes = tuple(f"{head}." for head in heads)
    of_heads = {name for name, _p in base.named_parameters() if prefixes and name.startswith(prefixes)}
    model = view(base, of_heads | _stored(job.weights))
    if not job.weights:
        new_head(model, heads, job.job.spec.training.seed)
        return _ready(model, dtype)
    before = [parameter._version for parameter in base.parameters()]
    adapted = attach(model, job.job, job.weights)
    if before != [parameter._version for parameter in base.parameters()]:
        raise SpoiltBase
    return _ready(adapted, dtype)


def _ready(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Convert all parameters to one dtype, because a new head is float32 beside a bfloat16 base model, and set
    evaluation mode."""
    convert_parameters(model, dtype)
    return model.train(False)


def view(base: PreTrainedModel, own: Collection[str]) -> PreTrainedModel:
    """A copy of the modules whose parameters, but for its `own`, and buffers have the storage of the base model's."""
    copies: dict[int, Any] = {id(buffer): buffer for buffer in base.buffers()}
    for name, p in base.named_parameters():
        values = p.detach().clone() if name in own else p.detach()
        copies[id(p)] = nn.Parameter(values, requires_grad=False)
    return copy.deepcopy(base, copies)


def _stored(weights: str) -> set[str]:
    """Names of the tensors that a run saved, as its base model has them: PEFT also saves biases of the base model."""
    names: set[str] = set()
    for file in Path(weights).glob("*.safetensors") if weights else ():
        with safe_open(file, framework="pt") as stored:
            names |= set(stored.keys())
    return {name.removeprefix(PEFT_PREFIX).replace(".base_layer.", ".") for name in names}
