"""From rows to batches: read once, tokenize once, then group rows of similar length to save padding.

The training order depends only on the seed, the epoch, the batch size and the rows: every arm with the same seed sees
the same rows in the same order.
"""

import hashlib
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from app.domain.data.dataset import ROWS, SPLITS, Row, Split
from app.domain.failures import FailureCode, RunFailed
from app.domain.runs.result import DataSeen
from app.domain.tasks import Format

IGNORED = -100
"""A target that no loss is taken of: padding, and a prompt's tokens."""
_R = TypeVar("_R")
_CHUNK = 1000
_WINDOW = 50
"""Batches sorted among each other, at most: enough that a batch's rows are alike, few enough that the order stays
random."""
_LEAST_WINDOW = 4
_SHARE = 8
"""Not more than an eighth of an epoch is sorted at once: where length tells of the label, batches of one length have
few labels, and in an epoch of 30 batches that cost 4 % of the loss."""


class Listener(Protocol):
    """Who hears of what is done to rows, and may stop it. Every `ProgressSink` is one."""

    def log(self, message: str) -> None:
        """A line for the run's log."""

    def raise_if_stopped(self) -> None:
        """Raise to stop."""


@dataclass(frozen=True)
class Examples:
    """One split as the engine sees it. All sequences have the length of the split.

    A task derives its own from it, with what its `collate` and its `evaluate` need beside.
    """

    rows: Sequence[Row]
    targets: Sequence[NDArray[np.int64]]
    """What each row should lead to: its label [1], or token ids with IGNORED where nothing is learnt."""
    lengths: Sequence[int]
    """What each row costs, in tokens that the model reads: rows of like length come together."""

    def __len__(self) -> int:
        return len(self.rows)

    def weight(self, indices: Sequence[int]) -> tuple[int, int]:
        """To order batches by what they need: tokens with padding, and then padding, for a mask that hides nothing is
        left out."""
        padded = len(indices) * max(self.lengths[i] for i in indices)
        return padded, padded - sum(self.lengths[i] for i in indices)

    def heaviest(self, batches: Sequence[Sequence[int]]) -> list[int]:
        """Places of the batches that need most: of the one with the most tokens, and, where another has more targets,
        of that one, for logits are large."""
        places = range(len(batches))
        by_tokens = max(places, key=lambda place: self.weight(batches[place]))
        by_targets = max(places, key=lambda place: self.units(batches[place]))
        more = self.units(batches[by_targets]) > self.units(batches[by_tokens])
        return [by_tokens, by_targets] if more else [by_tokens]

    def units(self, indices: Sequence[int]) -> int:
        """What the loss of some rows is a mean over: items, or completion tokens."""
        return sum(int(np.count_nonzero(self.targets[i] != IGNORED)) for i in indices)


@dataclass(frozen=True)
class Texts(Examples):
    """A split of texts."""

    tokens: Sequence[NDArray[np.int32]]
    """Input ids of each row."""


class Places(NamedTuple):
    """N positions of a batch, in order of row and column; int64 [N] each."""

    rows: torch.Tensor
    columns: torch.Tensor


def learnt(labels: torch.Tensor) -> Places:
    """Where labels [B, T] are targets. Looked for on the CPU, since looking on a GPU waits for all of its work."""
    return Places(*(labels != IGNORED).nonzero(as_tuple=True))


@dataclass(frozen=True)
class Batch:
    """Rows as the model takes them."""

    inputs: dict[str, torch.Tensor]
    """Keyword arguments of the model's forward pass; [B, T] each, unless the task says otherwise."""
    labels: torch.Tensor
    """Targets as the task's loss takes them, int64."""
    tokens: int
    """Real tokens, without padding."""
    places: Places | None = None
    """Of a language model: where `labels` hold a target."""

    @property
    def targets(self) -> torch.Tensor:
        """[N]: the labels of a language model that are targets."""
        assert self.places is not None  # noqa: S101 the tasks of language models give them
        return self.labels[self.places]

    def to(self, device: torch.device) -> "Batch":
        """The same on a device."""
        if device.type == "cpu":
            return self
        moved = {name: tensor.to(device, non_blocking=True) for name, tensor in self.inputs.items()}
        places = self.places and Places(*(p.to(device, non_blocking=True) for p in self.places))
        return Batch(moved, self.labels.to(device, non_blocking=True), self.tokens, places)


def read(file: str, form: Format, needed: Sequence[Split] = ("train", "test")) -> dict[Split, list[Row]]:
    """The rows of a dataset's Parquet file by split. Raises `RunFailed` if it cannot be used: a split that is needed
    has no row, for instance."""
    row_type = ROWS[form]
    try:
        table = pq.read_table(Path(file), columns=list(row_type._fields))
    except (OSError, pa.ArrowException) as error:
        reason = str(error).split("\n")[0].replace(file, "the file")
        raise RunFailed(FailureCode.DATASET_UNAVAILABLE, f"The dataset's file could not be read: {reason}.") from error
    rows: dict[Split, list[Row]] = {split: [] for split in SPLITS}
    for values in zip(*(table.column(name).to_pylist() for name in row_type._fields), strict=True):
        row: Row = row_type._make(values)
        if row.split not in rows:
            raise RunFailed(
                FailureCode.BAD_CONFIGURATION,
                f"Row {row.item} of the dataset is in split {row.split!r}. Use one of {', '.join(SPLITS)}.",
            )
        rows[row.split].append(row)
    for split in needed:
        if not rows[split]:
            raise RunFailed(
                FailureCode.BAD_CONFIGURATION, f"The dataset has no rows in its {split} split. Register one that has."
            )
    return rows


def in_chunks(rows: Sequence[_R], between: Callable[[], None]) -> Iterator[Sequence[_R]]:
    """Rows a thousand at a time, with `between` called before each: tokenizing can be stopped there."""
    for start in range(0, len(rows), _CHUNK):
        between()
        yield rows[start : start + _CHUNK]


def most_tokens(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int | None:
    """How many tokens a model has positions for; None if it knows no limit.

    The tokenizer knows better than the configuration where both say something: RoBERTa has 514 positions for 512
    tokens.
    """
    limits = positions(config)
    return min(limits, tokenizer.model_max_length) if limits else None


def positions(config: PreTrainedConfig) -> int | None:
    """How many positions a configuration speaks of; None if it speaks of none."""
    config = config.get_text_config()
    names = ("max_position_embeddings", "max_encoder_position_embeddings", "max_decoder_position_embeddings")
    found = [getattr(config, name, None) for name in names]
    return min((n for n in found if isinstance(n, int) and n > 0), default=None)


def check_length(
    max_length: int, virtual_tokens: int, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None
) -> None:
    """Raise `RunFailed(bad_configuration)` if the model has no positions for texts of this length, with what the method
    puts before them. Without a tokenizer the configuration alone tells."""
    limit = most_tokens(model.config, tokenizer) if tokenizer is not None else positions(model.config)
    if limit is not None and max_length + virtual_tokens > limit:
        taken = f", of which the method takes {virtual_tokens}" if virtual_tokens else ""
        remedy = f"Lower it to {limit - virtual_tokens}" if limit - virtual_tokens > 1 else "Lower num_virtual_tokens"
        raise RunFailed(
            FailureCode.BAD_CONFIGURATION,
            f"max_length is {max_length}, but the base model reads at most {limit} tokens{taken}. {remedy}.",
        )


def padded(
    sequences: Sequence[NDArray[np.integer[Any]]], fill: int, *, left: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sequences one below the other, padded on the right, or on the left, to the longest: values [B, T] and mask
    [B, T], both int64."""
    longest = max(len(s) for s in sequences)
    values = np.full((len(sequences), longest), fill, dtype=np.int64)
    mask = np.zeros_like(values)
    for row, sequence in enumerate(sequences):
        place = slice(longest - len(sequence), None) if left else slice(len(sequence))
        values[row, place] = sequence
        mask[row, place] = 1
    return torch.from_numpy(values), torch.from_numpy(mask)


def training_order(lengths: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """One epoch's batches as indices of rows: shuffle, sort by length within windows of some batches, shuffle the
    batches.

    Every row occurs once; all batches but one have `batch_size` rows.
    """
    shuffle = random.Random(f"{seed}/{epoch}").shuffle
    indices = list(range(len(lengths)))
    shuffle(indices)
    window = min(_WINDOW, max(_LEAST_WINDOW, len(indices) // batch_size // _SHARE)) * batch_size
    ordered: list[int] = []
    for start in range(0, len(indices), window):
        ordered += sorted(indices[start : start + window], key=lengths.__getitem__)
    batches = [ordered[start : start + batch_size] for start in range(0, len(ordered), batch_size)]
    shuffle(batches)
    return batches


def describe_data(splits: Mapping[Split, Sequence[Row]], train: Examples, batch_size: int, seed: int) -> DataSeen:
    """What an attempt reads and in which order, as hashes; two attempts have the same if they read the same."""
    rows, order = hashlib.sha256(), hashlib.sha256()
    for split in SPLITS:
        for row in splits.get(split, ()):
            rows.update(json.dumps(row, ensure_ascii=False).encode() + b"\n")
    for batch in training_order(train.lengths, batch_size, seed, 0):
        order.update(json.dumps([train.rows[i].item for i in batch], ensure_ascii=False).encode() + b"\n")
    return DataSeen(splits=rows.hexdigest(), order=order.hexdigest())


def evaluation_order(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Batches of rows of like length, the longest first: if memory does not suffice, it shows at once."""
    ordered = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    return [ordered[start : start + batch_size] for start in range(0, len(ordered), batch_size)]
