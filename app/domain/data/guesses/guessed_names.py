"""Guesses from names alone: the predefined splits of a source, and the name of a dataset."""

import re
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from app.domain.data.dataset import Split
from app.domain.data.guesses.mapping import Column
from app.domain.data.splitting import Splitting

SPLIT_WORDS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "trainset": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "validset": "validation",
    "devset": "validation",
    "test": "test",
    "testing": "test",
    "testset": "test",
    "eval": "test",
    "evaluation": "test",
}
SPLIT_COLUMNS = ("split", "set", "subset", "fold", "partition")

_CAMEL_CASE = re.compile(r"(?<=[^\W\d_A-Z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])")


def words_of(name: str) -> list[str]:
    """`drugsComTrain-v2` → drugs, com, train, v, 2."""
    return [word.lower() for word in re.findall(r"[^\W_]+", _CAMEL_CASE.sub(" ", name))]


def split_in_name(name: str) -> Split | None:
    """The split that a file's name, or a split's own, denotes: `drugsComTrain.tsv` is train, `latest.csv` none."""
    splits = {SPLIT_WORDS[word] for word in words_of(name) if word in SPLIT_WORDS}
    return splits.pop() if len(splits) == 1 else None


def dataset_name(file_name: str) -> str:
    """A dataset's name from a file's: `my reviews-train.csv` → `my-reviews`, `drugsComTrain.tsv` → `drugsCom`."""
    stem = PurePosixPath(file_name).name.partition(".")[0]
    parts = re.split(r"([\W_]+)", _CAMEL_CASE.sub("\0", stem))  # words and what separates them, in turn
    kept = ""
    after_split = False
    for word, separator in zip(parts[::2], [*parts[1::2], ""], strict=True):
        after_split = word.lower() in SPLIT_WORDS or (after_split and word.lower() in ("set", "split"))
        kept += separator if after_split else word + separator
    plain = kept if re.search(r"[^\W_]", kept) else stem
    plain = re.sub(r"_+", "_", re.sub(r"[^\w]+", "-", plain.replace("\0", "")))
    return plain.strip("-_" if plain != stem else "-")[:120]


def guess_splitting(splits: Sequence[str], columns: Sequence[Column]) -> Splitting:
    """The source's predefined splits, or those of a column that names them; else the splits are made here."""
    if names := _named_splits(splits):
        return Splitting(kind="predefined", names=names)
    for column in columns:
        all_listed = column.distinct == len(column.values)
        if column.name.strip().lower() in SPLIT_COLUMNS and all_listed and (names := _named_splits(column.values)):
            return Splitting(kind="predefined", column=column.name, names=names)
    return Splitting()


def _named_splits(splits: Iterable[str]) -> dict[Split, list[str]]:
    """Names by split; empty unless all are known and one is train."""
    names: dict[Split, list[str]] = {}
    for name in splits:
        if (split := split_in_name(name)) is None:
            return {}
        names.setdefault(split, []).append(name)
    return names if len(names) > 1 and "train" in names else {}
