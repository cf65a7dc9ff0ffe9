"""What an attempt has read: hashes of its rows and their order, and how many were truncated or contradict others."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence

from app.domain.data.dataset import SPLITS, ChatRow, ImageRow, LabelledRow, PreferenceChatRow, Row, Split
from app.domain.runs.result import DataSeen
from worker.engine.data.batches.batches import Examples, training_order


def describe_data(splits: Mapping[Split, Sequence[Row]], train: Examples, batch_size: int, seed: int) -> DataSeen:
    """Hashes of the rows that an attempt reads and of their order; attempts that read the same have the same hashes."""
    rows, order = hashlib.sha256(), hashlib.sha256()
    for split in SPLITS:
        for row in splits.get(split, ()):
            rows.update(json.dumps(_described(row), ensure_ascii=False).encode() + b"\n")
    for batch in training_order(train.sorted_by, batch_size, seed, 0):
        order.update(json.dumps([train.rows[i].item for i in batch], ensure_ascii=False).encode() + b"\n")
    return DataSeen(
        splits=rows.hexdigest(),
        order=order.hexdigest(),
        train_rows=len(train),
        truncated_rows=len(train.truncated),
        long_tokens=_long_tokens(train),
        contradictory_rows=_contradictory(train.rows),
    )


def _described(row: Row) -> tuple[object, ...]:
    if isinstance(row, ImageRow):
        return row.item, row.split, row.label
    described: tuple[object, ...] = row
    while isinstance(row, ChatRow | PreferenceChatRow) and described[-1] is None:  # as before rows had the column
        described = described[:-1]
    return described


def _long_tokens(train: Examples) -> int:
    """The length that 95 % of the rows do not exceed, before truncation: the truncated rows are the longest. Of a row
    with several sequences the longest counts, since `max_length` truncates each by itself."""
    longest: list[int] = [max(lengths) for lengths in zip(*train.sides, strict=True)]
    read = sorted(longest)[: len(train) - len(train.truncated)]
    whole = [*read, *sorted(train.truncated)]
    return whole[math.ceil(0.95 * len(whole)) - 1]


def _contradictory(rows: Sequence[Row]) -> int | None:
    """Rows whose text has several labels; None where rows have no labels."""
    labels: dict[str, set[int]] = {}
    for row in rows:
        if not isinstance(row, LabelledRow):
            return None
        labels.setdefault(row.text, set()).add(row.label)
    return sum(isinstance(row, LabelledRow) and len(labels[row.text]) > 1 for row in rows)
