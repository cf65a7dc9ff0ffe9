"""Rows to batches: read once, tokenize once, then group texts of like length so that little is spent on padding.

The order of training depends on the seed, the epoch, the batch size and the texts, and on nothing else: every arm
with the same seed sees the same rows in the same order.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from app.domain.datasets import SPLITS, Row, Split
from app.domain.errors import RunFailed
from app.domain.runs import FailureCode

_CHUNK = 1000
_WINDOW = 50
"""Batches sorted among each other: enough that a batch's texts are alike, few enough that the order stays random."""


@dataclass(frozen=True)
class Examples:
    """One split, tokenized. All sequences have the length of the split."""

    rows: Sequence[Row]
    tokens: Sequence[NDArray[np.int32]]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row."""
        return [len(t) for t in self.tokens]


@dataclass(frozen=True)
class Batch:
    """Rows padded on the right to the longest of them."""

    input_ids: torch.Tensor
    """[B, T], int64."""
    attention_mask: torch.Tensor
    """[B, T], int64: 1 for a real token, 0 for padding."""
    labels: torch.Tensor
    """[B], int64."""
    tokens: int
    """Real tokens."""

    def to(self, device: torch.device) -> "Batch":
        """The same on a device."""
        if device.type == "cpu":
            return self
        return Batch(self.input_ids.to(device), self.attention_mask.to(device), self.labels.to(device), self.tokens)


def read(file: str, labels: int) -> dict[Split, list[Row]]:
    """The rows of a dataset's Parquet file by split. Raises `RunFailed` if it cannot be used."""
    try:
        table = pq.read_table(Path(file), columns=list(Row._fields))
    except (OSError, pa.ArrowException) as error:
        reason = str(error).split("\n")[0].replace(file, "the file")
        raise RunFailed(FailureCode.DATASET_UNAVAILABLE, f"The dataset's file could not be read: {reason}.") from error
    rows: dict[Split, list[Row]] = {split: [] for split in SPLITS}
    for row in map(Row._make, zip(*(table.column(name).to_pylist() for name in Row._fields), strict=True)):
        if row.split not in rows or row.text is None or row.label is None or not 0 <= row.label < labels:
            raise RunFailed(
                FailureCode.BAD_CONFIGURATION,
                f"Row {row.item} of the dataset has label {row.label} in split {row.split!r}: "
                f"labels go from 0 to {labels - 1} and splits are {', '.join(SPLITS)}.",
            )
        rows[row.split].append(row)
    for split in ("train", "test"):
        if not rows[split]:
            raise RunFailed(
                FailureCode.BAD_CONFIGURATION, f"The dataset has no row in its {split} split: register it with one."
            )
    return rows


def tokenize(
    rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, max_length: int, between: Callable[[], None]
) -> Examples:
    """Tokens of every row, cut to `max_length` with the special tokens included. Calls `between` now and then."""
    tokens: list[NDArray[np.int32]] = []
    for start in range(0, len(rows), _CHUNK):
        between()
        encoded = tokenizer(
            [row.text for row in rows[start : start + _CHUNK]],
            truncation=True,
            max_length=max_length,
            return_attention_mask=False,
            return_token_type_ids=False,
        )
        tokens += [np.asarray(ids, dtype=np.int32) for ids in encoded["input_ids"]]
    return Examples(rows, tokens)


def check_length(max_length: int, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise `RunFailed(bad_configuration)` if the model has no positions for texts of this length.

    The tokenizer knows better than the configuration where both say something: RoBERTa has 514 positions for 512
    tokens.
    """
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is None or positions < 0:
        return
    limit = min(positions, tokenizer.model_max_length)
    if max_length > limit:
        raise RunFailed(
            FailureCode.BAD_CONFIGURATION,
            f"max_length is {max_length}, but the base model reads at most {limit} tokens: lower it to that.",
        )


def collate(examples: Examples, indices: Sequence[int], pad_token: int) -> Batch:
    """Some rows as a batch."""
    chosen = [examples.tokens[i] for i in indices]
    longest = max(len(t) for t in chosen)
    ids = np.full((len(chosen), longest), pad_token, dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, tokens in enumerate(chosen):
        ids[row, : len(tokens)] = tokens
        mask[row, : len(tokens)] = 1
    labels = torch.tensor([examples.rows[i].label for i in indices])
    return Batch(torch.from_numpy(ids), torch.from_numpy(mask), labels, sum(len(t) for t in chosen))


def training_order(lengths: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """One epoch's batches as indices of rows: shuffle, sort by length within windows of 50 batches, shuffle the
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


def evaluation_order(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Batches of rows of like length, the longest first: if memory does not suffice, it shows at once."""
    ordered = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    return [ordered[start : start + batch_size] for start in range(0, len(ordered), batch_size)]
