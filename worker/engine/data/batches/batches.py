"""Turn rows into batches: read once, tokenize once, then group rows of similar length to save padding.

The training order depends only on the seed, the epoch, the batch size and the rows: every arm with the same seed sees
the same rows in the same order.

host     batch 1 | batch 2 | batch 3 …          builds batches and queues copies and kernels
    device     copy 1, step 1, copy 2, step 2 …     in this order

Nothing in a step reads from the device, so the host is ahead of it: the copy of the next batch is queued while the step
before it is computed, behind its kernels. A batch has some kilobytes, whose copy takes microseconds; a stream of its
own would overlap these, and hold a second batch.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from app.domain.data.dataset import ROWS, SPLITS, Row, Split, StoredImage, training_rows
from app.domain.errors import first_line
from app.domain.failures import FailureCode, RunFailed
from app.domain.messages import _
from app.domain.tasks import Format
from worker.engine.data.rows import values_of


def copied(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor on a device, for CUDA through pinned memory: from other memory `non_blocking` has no effect, and the
    host would wait until the device has reached the copy. torch keeps pinned memory until its copy is done."""
    source = tensor.pin_memory() if device.type == "cuda" else tensor
    return source.to(device, non_blocking=True)


ALIGNED = 8
"""Padded lengths are multiples of it. For every new shape of a product in bfloat16, oneDNN compiles a kernel on a CPU,
which takes about a millisecond, and keeps up to 1,024 of them. Tensor cores of a GPU prefer such lengths, too."""
IGNORED = -100
"""A target without a loss: padding, and the tokens of a prompt."""
_R = TypeVar("_R")
_CHUNK = 1000
_WINDOW = 4
"""Batches that are sorted together. If length predicts the label, batches of one length have few labels, which costs
quality; unsorted, half of a batch may be padding (docs/measuring.md, "Sorting by length")."""


class Listener(Protocol):
    """Receives log lines about rows, and may stop the work. Every `ProgressSink` is one."""

    def log(self, message: str) -> None:
        """Write a line to the run's log."""

    def raise_if_stopped(self) -> None:
        """Raise to stop."""


@dataclass(frozen=True)
class Examples:
    """One encoded split; every sequence has one entry per row.

    A task derives its own class with the additional data of its `collate` and `evaluate`.
    """

    rows: Sequence[Row]
    targets: Sequence[NDArray[np.int64]]
    """Targets of each row: its label [1], or token ids with IGNORED where there is no target."""
    lengths: Sequence[int]
    """Tokens that the model reads for each row; rows of similar length are batched together."""
    truncated: Sequence[int] = field(default=(), kw_only=True)
    """Tokens of each truncated row before that, in any order."""
    masked: bool = field(default=True, kw_only=True)
    """The model gets a mask that hides padding."""
    padding_free: bool = field(default=False, kw_only=True)
    """Batches are computed without padding (`worker.engine.data.batches.padding_free`)."""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def items(self) -> Sequence[Row]:
        """The rows that have a score each: all, unless the task scores several as one item."""
        return self.rows

    @property
    def sides(self) -> tuple[Sequence[int], ...]:
        """Lengths of the sequences of each row, those that are padded apart by themselves, or both of a preference
        pair; the first is that of `input_ids`."""
        return (self.lengths,)

    @cached_property
    def longest(self) -> tuple[int, ...]:
        """Length of the longest sequence of each side: no batch is padded further."""
        return tuple(max(side, default=0) for side in self.sides)

    def weight(self, indices: Sequence[int]) -> tuple[int, int]:
        """The order of batches by their memory: tokens with padding, then padding (a mask); without padding: tokens."""
        padded = sum(rows * sum(lengths) for rows, lengths in self.computed(indices))
        return padded, padded - sum(self.lengths[i] for i in indices)

    @property
    def sorted_by(self) -> Sequence[int]:
        """The lengths by which training sorts rows: all equal without padding."""
        return [0] * len(self) if self.padding_free else self.lengths

    def heaviest(self, batches: Sequence[Sequence[int]]) -> list[int]:
        """Indices of the batches that need the most memory: with the most tokens, and with the most logits."""
        places = range(len(batches))
        by_tokens = max(places, key=lambda place: self.weight(batches[place]))
        by_targets = max(places, key=lambda place: self.outputs(batches[place]))
        has_more_targets = self.outputs(batches[by_targets]) > self.outputs(batches[by_tokens])
        return [by_tokens, by_targets] if has_more_targets else [by_tokens]

    def units(self, indices: Sequence[int]) -> int:
        """Units in the loss of some rows: items, or completion tokens."""
        return sum(int(np.count_nonzero(self.targets[i] != IGNORED)) for i in indices)

    def outputs(self, indices: Sequence[int]) -> int:
        """Positions of some rows whose logits the loss needs."""
        return self.units(indices)

    def computed(self, indices: Sequence[int]) -> list[tuple[int, tuple[int, ...]]]:
        """Numbers of rows and the padded length of each of their sides that a pass over a batch computes."""
        sides = self.sides
        if self.padding_free:
            return [(1, tuple(side[i] for side in sides)) for i in indices]
        longest = (max(side[i] for i in indices) for side in sides)
        return [(len(indices), tuple(map(padded_length, longest, self.longest)))]


@dataclass(frozen=True)
class Texts(Examples):
    tokens: Sequence[NDArray[np.int32]]
    """Input ids of each row."""


class Places(NamedTuple):
    """N positions of a batch, in order of row and column; int64 [N] each."""

    rows: torch.Tensor
    columns: torch.Tensor


def learnt(labels: torch.Tensor) -> Places:
    """Positions of the targets in labels [B, T]. Found on the CPU, since a GPU would first finish all queued work."""
    return Places(*(labels != IGNORED).nonzero(as_tuple=True))


@dataclass(frozen=True)
class Objective:
    """What the loss of B preference pairs needs beside their logits."""

    loss: Literal["dpo", "orpo"]
    beta: float
    reference: torch.Tensor | None = None
    """[2B] log-probabilities of the answers by the base model, chosen ones first, float32; None: as if all were 0."""


@dataclass(frozen=True)
class Batch:
    inputs: dict[str, torch.Tensor]
    """Keyword arguments of the model's forward pass; [B, T] each, unless the task says otherwise."""
    labels: torch.Tensor
    """Targets as the task's loss takes them, int64."""
    tokens: int
    """Real tokens, without padding."""
    places: Places | None = None
    """For a language model: positions of the targets in `labels`."""
    padding: torch.Tensor | None = None
    """[B, T], 1 for a token, where the model gets no such mask; stays on the CPU."""
    lengths: tuple[int, ...] | None = None
    """Number of tokens of each row of a padding-free batch."""
    objective: Objective | None = None
    """Of preference pairs."""

    @property
    def real(self) -> torch.Tensor:
        """[B, T], 1 for a token and 0 for padding."""
        return self.inputs["attention_mask"] if self.padding is None else self.padding

    @property
    def targets(self) -> torch.Tensor:
        """[N]: the labels of a language model that are targets."""
        assert self.places is not None  # noqa: S101 the tasks of language models give them
        return self.labels[self.places]

    def to(self, device: torch.device) -> "Batch":
        """The batch on a device."""
        if device.type == "cpu":
            return self
        moved = {name: copied(tensor, device) for name, tensor in self.inputs.items()}
        places = self.places and Places(*(copied(place, device) for place in self.places))
        objective = self.objective
        if objective is not None and objective.reference is not None:
            objective = replace(objective, reference=copied(objective.reference, device))
        return replace(self, inputs=moved, labels=copied(self.labels, device), places=places, objective=objective)


def read(
    file: str, form: Format, needed: Sequence[Split] = ("train", "test"), train_fraction: float = 1.0
) -> dict[Split, list[Row]]:
    """The rows of a dataset's Parquet file by split; of its training rows, the given share. Images stay in the file,
    from which `worker.engine.data.images` reads them. Raises `RunFailed` if it cannot be used, such as one
    without rows in a needed split."""
    row_type = ROWS[form]
    try:
        there = pq.read_schema(Path(file)).names
        added = set(row_type._field_defaults) - set(there)  # since the file was written
        columns = [name for name in row_type._fields if name != "image" and name not in added]
        table = pq.read_table(Path(file), columns=columns)
    except (OSError, pa.ArrowException) as error:
        raise unreadable_dataset(error, file) from error
    rows: dict[Split, list[Row]] = {split: [] for split in SPLITS}
    stored = (StoredImage(file, place) for place in range(table.num_rows))
    fields = (stored if name == "image" else values_of(table, name) for name in row_type._fields)
    for values in zip(*fields, strict=True):
        row: Row = row_type._make(values)
        if row.split not in rows:
            text = _(
                "Row %(item)s of the dataset is in split %(split)r. Use one of %(splits)s.",
                item=row.item,
                split=row.split,
                splits=", ".join(SPLITS),
            )
            raise RunFailed(FailureCode.BAD_CONFIGURATION, text)
        rows[row.split].append(row)
    for split in needed:
        if not rows[split]:
            raise RunFailed(
                FailureCode.BAD_CONFIGURATION,
                _("The dataset has no rows in its %(split)s split. Choose a dataset with rows in it.", split=split),
            )
    return rows | {"train": training_rows(rows["train"], train_fraction)}


def unreadable_dataset(error: Exception, file: str) -> RunFailed:
    """The error for a dataset's file that cannot be read; the path of the file does not appear in it."""
    text = _("The dataset's file could not be read: %(reason)s.", reason=first_line(error).replace(file, "the file"))
    return RunFailed(FailureCode.DATASET_UNAVAILABLE, text)


def in_chunks(rows: Sequence[_R], between: Callable[[], None]) -> Iterator[Sequence[_R]]:
    """Rows in chunks of a thousand, with `between` called before each, so that tokenizing can be stopped."""
    for start in range(0, len(rows), _CHUNK):
        between()
        yield rows[start : start + _CHUNK]


def most_tokens(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Maximum number of tokens of a model; None without a limit.

    The smaller of the tokenizer's and the configuration's limit: RoBERTa has 514 positions for 512 tokens.
    """
    limits = positions(config)
    return min(limits, tokenizer.model_max_length) if limits else None


def positions(config: PreTrainedConfig) -> int | None:
    """Number of positions in a configuration; None if it has no such entry."""
    config = config.get_text_config()
    names = ("max_position_embeddings", "max_encoder_position_embeddings", "max_decoder_position_embeddings")
    limits = [getattr(config, name, None) for name in names]
    return min((n for n in limits if isinstance(n, int) and n > 0), default=None)


def check_length(
    max_length: int, virtual_tokens: int, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None
) -> None:
    """Raise `RunFailed(bad_configuration)` if the model has no positions for texts of this length after the method's
    virtual tokens. Without a tokenizer, only the configuration is checked."""
    limit = most_tokens(model.config, tokenizer) if tokenizer is not None else positions(model.config)
    if limit is not None and max_length + virtual_tokens > limit:
        room = limit - virtual_tokens
        remedy = _("Lower it to %(room)s", room=room) if room > 1 else _("Lower num_virtual_tokens")
        values = {"length": max_length, "limit": limit, "remedy": remedy}
        text = _("max_length is %(length)s, but the base model reads at most %(limit)s tokens. %(remedy)s.", **values)
        if virtual_tokens:
            text = _(
                "max_length is %(length)s, but the base model reads at most %(limit)s tokens, of which the method uses "
                "%(virtual)s. %(remedy)s.",
                virtual=virtual_tokens,
                **values,
            )
        raise RunFailed(FailureCode.BAD_CONFIGURATION, text)


def padded_length(longest: int, most: int) -> int:
    """The length to which sequences are padded: a multiple of `ALIGNED`, but no more than `most`."""
    return min(-(-longest // ALIGNED) * ALIGNED, max(most, longest))


def padded(
    sequences: Sequence[NDArray[np.integer[Any]]], fill: int, *, most: int = 0, left: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sequences padded to the longest, or to a multiple of `ALIGNED` up to `most`, on the right or on the left: values
    [B, T] and mask [B, T], both int64."""
    longest = padded_length(max(len(s) for s in sequences), most)
    values = np.full((len(sequences), longest), fill, dtype=np.int64)
    mask = np.zeros_like(values)
    for row, sequence in enumerate(sequences):
        place = slice(longest - len(sequence), None) if left else slice(len(sequence))
        values[row, place] = sequence
        mask[row, place] = 1
    return torch.from_numpy(values), torch.from_numpy(mask)


def training_order(lengths: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """The batches of an epoch as row indices: shuffle, sort by length within windows of some batches, shuffle the
    batches.

    Every row occurs once; all batches but one have `batch_size` rows.
    """
    shuffle = random.Random(f"{seed}/{epoch}").shuffle
    indices = list(range(len(lengths)))
    shuffle(indices)
    window = _WINDOW * batch_size
    ordered: list[int] = []
    for start in range(0, len(indices), window):
        ordered += sorted(indices[start : start + window], key=lengths.__getitem__)
    batches = [ordered[start : start + batch_size] for start in range(0, len(ordered), batch_size)]
    shuffle(batches)
    return batches
