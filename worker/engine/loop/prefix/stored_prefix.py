"""The frozen prefix of one attempt's model: computed once, kept in the worker's cache, read back for every batch.

The stored activations depend only on the prefix's weights, the rows and their truncation, the precision and the
libraries: another arm or seed of the same study reuses them.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import torch
from torch import nn

from app.domain.runs.job import TrainJob
from app.domain.tasks import TASKS
from worker.engine.data.batches.batches import Batch, Examples
from worker.engine.evaluation.evaluate import Evaluator
from worker.engine.loop.prefix.activations import Activations, NotCached, PrefixCache
from worker.engine.loop.prefix.frozen_prefix import Prefix, frozen_prefix
from worker.engine.loop.progress import Instruments


class StoredPrefix:
    """The prefix, and its activations on the training rows if they are stored."""

    def __init__(self, prefix: Prefix, activations: Activations | None = None) -> None:
        self._prefix = prefix
        self._activations = activations

    @property
    def stored(self) -> bool:
        """Whether activations are read back."""
        return self._activations is not None

    def train_mode(self) -> None:
        """Training mode with dropout everywhere but in the prefix, stored or not: both have the same loss."""
        self._prefix.train_mode()

    @contextmanager
    def feeding(self, indices: Sequence[int], batch: Batch) -> Iterator[None]:
        """For one forward pass over a batch, make the prefix return the stored activations of its rows."""
        if self._activations is None:
            yield
            return
        hidden = self._activations.read(indices, batch.real).to(batch.labels.device)
        with self._prefix.fed() as feed:
            feed(hidden)
            yield


def stored_prefix(
    model: nn.Module,
    hashes: Mapping[str, bytes],
    job: TrainJob,
    train: Examples,
    evaluator: Evaluator,
    instruments: Instruments,
) -> StoredPrefix:
    """Find the prefix of a model that a method was applied to, and its activations: from the cache, or computed now.

    `hashes` are those of the model's parameters. Activations that cannot be stored are computed every time; the log
    says why.
    """
    prefix = frozen_prefix(model, bf16=evaluator.bf16, log=instruments.sink.log)
    training = job.spec.training
    together = training.packing or training.padding_free or TASKS[job.spec.task].sequences > 1
    if not prefix.depth or not training.cache_frozen_prefix or together or job.cache is None:
        return StoredPrefix(prefix)
    instruments.clocks.enter("cache")
    key = _key(prefix, hashes, job, train, evaluator)
    cache = PrefixCache(Path(job.cache) / "prefix", key, job.cache_bytes)
    activations = cache.open()
    try:
        if activations is None:
            with torch.autocast(evaluator.device.type, torch.bfloat16, enabled=evaluator.bf16):
                activations = prefix.fill(cache, _batches(train, evaluator), len(train), sum(train.lengths))
        instruments.sink.log(f"The lowest {prefix.depth} blocks are frozen: their activations are read from the cache.")
    except NotCached as reason:
        instruments.sink.log(f"The lowest {prefix.depth} blocks are frozen and computed every time: {reason}")
    return StoredPrefix(prefix, activations)


def _batches(train: Examples, evaluator: Evaluator) -> Iterator[tuple[list[int], dict[str, torch.Tensor]]]:
    for indices, batch in evaluator.batches(train):
        mask = {"attention_mask": batch.real.to(evaluator.device)} if "input_ids" in batch.inputs else {}
        yield indices, batch.inputs | mask


def _key(prefix: Prefix, hashes: Mapping[str, bytes], job: TrainJob, train: Examples, evaluator: Evaluator) -> str:
    """A hash of everything that the activations depend on. The model's own identity covers weights that feed a block
    without a module of their own; the configuration covers behaviour without weights."""
    inside = {id(p) for module in (*prefix.around, *prefix.blocks) for p in module.parameters()}
    weights = sorted(hashes[name].hex() for name, p in prefix.model.named_parameters() if id(p) in inside)
    tokens = hashlib.sha256()
    for _, batch in evaluator.batches(train):
        tokens.update(next(iter(batch.inputs.values())).cpu().numpy().tobytes())  # tokens, or pixels
    parts = {
        "model": [job.model_location, job.model_fingerprint, str(getattr(prefix.model, "config", ""))],
        "weights": weights,
        "depth": prefix.depth,
        "tokens": tokens.hexdigest(),
        "batch": evaluator.batch_size,
        "device": evaluator.device.type,
        "bf16": evaluator.bf16,
        "versions": [version("torch"), version("transformers")],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
