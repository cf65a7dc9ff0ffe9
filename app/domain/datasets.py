"""Datasets: registered rows with a content hash, a task, labels and fixed splits."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
Task = Literal["sequence-classification"]
SAMPLE_DATASET = "bbc-headlines"


class Row(NamedTuple):
    """One labelled text. `item` is a hash of the text: the same row has the same name everywhere."""

    item: str
    split: Split
    text: str
    label: int
    """Index into the dataset's labels."""


class DatasetFacts(BaseModel):
    """What is known of a dataset without opening its file."""

    model_config = ConfigDict(frozen=True)

    task: Task
    labels: list[str]
    counts: dict[Split, int]
    label_counts: dict[str, int]
    content_hash: str
    """SHA-256 over every row in order."""


def item_name(text: str) -> str:
    """A row's stable name: the first 16 hex digits of its text's SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def split_by_hash(rows: Iterable[tuple[str, str]], train: int, validation: int) -> tuple[list[str], list[Row]]:
    """Drop repeated texts, order by hash, and cut: `train` rows, `validation` rows, the rest is the test split.

    The order depends on the texts alone, so the splits are the same on every machine. A text that stands under
    two labels keeps the first in alphabetical order of the labels. Returns the labels (sorted) and the rows.
    """
    distinct: dict[str, str] = {}
    for text, label in sorted(rows, key=lambda r: (r[1], r[0])):
        cleaned = " ".join(text.split())
        if cleaned:
            distinct.setdefault(cleaned, label)
    labels = sorted(set(distinct.values()))
    index = {name: i for i, name in enumerate(labels)}
    ordered = sorted((item_name(text), text, index[label]) for text, label in distinct.items())
    placed: list[Row] = []
    for place, (item, text, number) in enumerate(ordered):
        split: Split = "train" if place < train else "validation" if place < train + validation else "test"
        placed.append(Row(item, split, text, number))
    return labels, placed


def facts(task: Task, labels: Sequence[str], rows: Sequence[Row]) -> DatasetFacts:
    """Count and hash the rows."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(f"{row.split}\x1f{row.text}\x1f{labels[row.label]}\x1e".encode())
    return DatasetFacts(
        task=task,
        labels=list(labels),
        counts={split: sum(row.split == split for row in rows) for split in SPLITS},
        label_counts={name: sum(row.label == i for row in rows) for i, name in enumerate(labels)},
        content_hash=digest.hexdigest(),
    )
