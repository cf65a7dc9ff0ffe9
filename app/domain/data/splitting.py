"""Splits: predefined by the source, or random. A dataset always has train, validation and test.

A row's split follows from a hash of its input (text or prompt) and a seed, so it does not depend on the order of the
rows; rows with the same input stay in one split. Within a label the smallest hashes are the test split, the
next ones validation: additional rows move only the few at the edges.

    rows of a label    h_1 ≤ h_2 ≤ … ≤ h_n
    test               the first  test · n, rounded so that all labels together have test · N (largest remainders)
    validation         the next   validation · n, in the same way
    train              the rest, and never less than one
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from app.domain.data.dataset import SPLITS, Split
from app.domain.errors import FieldError
from app.domain.messages import _, choose_from
from app.domain.names import Verbatim

TRAIN, VALIDATION, TEST = range(3)
"""Places in `SPLITS`."""
LEFT_OUT = -1
Hashes = NDArray[np.uint64]
Codes = NDArray[np.int8]


class Splitting(BaseModel):
    """How rows are assigned to splits."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["predefined", "random"] = "random"
    column: Verbatim = ""
    """With `predefined`: the column whose values name the splits; empty for files and splits of the hub."""
    names: dict[Split, list[Verbatim]] = Field(default_factory=dict)
    """With `predefined`: its splits by their role; unnamed ones are left out."""
    validation: float = Field(default=0.1, ge=0.0, le=0.5)
    """Share of the rows in the validation split, unless it is predefined."""
    test: float = Field(default=0.1, ge=0.0, le=0.5)
    """Share of the rows in the test split, unless it is predefined."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    duplicates: Literal["keep", "drop"] = "keep"
    """`drop`: of rows with the same input one stays, in test if possible, else in validation."""

    def problems(self, splits: Sequence[str], columns: Mapping[str, Sequence[str]]) -> Iterator[FieldError]:
        """Errors for a source with these splits, and columns with these (few) values."""
        makes = self.missing() if self.kind == "predefined" else set(SPLITS)
        for split, share in (("validation", self.validation), ("test", self.test)):
            if split in makes and not share:
                what = _("The %(split)s split would be empty", split=split)
                yield FieldError(f"splitting.{split}", what, _("Use a share above 0"))
        if self.kind == "random":
            return
        if self.column and self.column not in columns:
            named = ", ".join(name for name, values in columns.items() if values) or "none has few values"
            yield FieldError(
                "splitting.column",
                _("There is no column %(column)r that can name splits", column=self.column),
                _("Choose from: %(names)s", names=named),
            )
            return
        there = list(columns[self.column]) if self.column else [split for split in splits if split]
        if not there:
            yield FieldError(
                "splitting.kind", _("The source has no predefined splits"), _("Set splitting.kind to random")
            )
            return
        if not self.names.get("train"):
            yield FieldError(
                "splitting.names.train",
                _("No split of the source is assigned to train"),
                choose_from(there),
            )
        taken: set[str] = set()
        for split, names in self.names.items():
            for name in names:
                if name not in there:
                    what = _("The source has no split %(name)r", name=name)
                    yield FieldError(f"splitting.names.{split}", what, choose_from(there))
                elif name in taken:
                    yield FieldError(
                        f"splitting.names.{split}",
                        _("%(name)r is assigned to two splits", name=name),
                        _("Assign it once"),
                    )
                taken.add(name)

    def missing(self) -> set[Split]:
        """Splits that the source does not define."""
        return {split for split in SPLITS if not self.names.get(split)}

    def of_source(self) -> dict[str, int]:
        """Places in `SPLITS` by name of the source's split."""
        return {name: place for place, split in enumerate(SPLITS) for name in self.names.get(split, ())}


def assign(
    inputs: Hashes, labels: NDArray[np.int32] | None, splitting: Splitting, predefined: Codes | None = None
) -> Codes:
    """The split of each row, as a place in `SPLITS`, or LEFT_OUT.

    inputs        [n] a hash of each row's input; equal ones stay in one split
    labels        [n] or None: by which to stratify
    predefined    [n] the predefined splits; missing ones are taken from train
    """
    if splitting.kind == "predefined":
        assert predefined is not None  # noqa: S101 the caller has read it
        splits = predefined.copy()
        missing = splitting.missing()
        shares = (
            splitting.test if "test" in missing else 0.0,
            splitting.validation if "validation" in missing else 0.0,
        )
        train = np.flatnonzero(splits == TRAIN)
        splits[train] = _cut(inputs[train], None if labels is None else labels[train], *shares, splitting.seed)
        return splits
    return _cut(inputs, labels, splitting.test, splitting.validation, splitting.seed)


def drop_duplicates(inputs: Hashes, splits: Codes) -> Codes:
    """Of rows with the same input (equal hashes, [n]) the first stays: in test, else in validation, else in train."""
    left = splits.copy()
    order = np.lexsort((np.arange(len(inputs)), -splits.astype(np.int16), inputs))
    same = inputs[order][1:] == inputs[order][:-1]
    left[order[1:][same]] = LEFT_OUT
    return left


def _cut(inputs: Hashes, labels: NDArray[np.int32] | None, test: float, validation: float, seed: int) -> Codes:
    """Train, validation and test by place in the order of hashes, within each label."""
    if len(inputs) == 0 or test + validation == 0:
        return np.full(len(inputs), TRAIN, dtype=np.int8)
    # Four bytes a number: a file may have millions of rows.
    _, first, group = np.unique(inputs, return_index=True, return_inverse=True)
    group = group.astype(np.int32)
    sizes = np.bincount(group).astype(np.int32)
    of_group = np.zeros(len(first), dtype=np.int32)
    if labels is not None:  # of those that stand under several the lowest, in whatever order they come
        of_group[:] = labels[first]
        np.minimum.at(of_group, group, labels)
    rows = np.bincount(of_group, weights=sizes).astype(np.int64)
    tested = _quotas(rows, test, rows - 1)
    validated = _quotas(rows, validation, rows - 1 - tested)
    # Groups by label and then by hash, and how many rows of the label come before each.
    order = np.lexsort((_mixed(inputs[first], seed), of_group)).astype(np.int32)
    label, before = of_group[order], np.cumsum(sizes[order], dtype=np.int32)
    before -= sizes[order]
    before -= (np.cumsum(rows) - rows).astype(np.int32)[label]
    place = np.full(len(first), TRAIN, dtype=np.int8)
    place[order[before < (tested + validated)[label]]] = VALIDATION
    place[order[before < tested[label]]] = TEST
    _keep_one_in_train(place, of_group, sizes, len(rows))
    splits: Codes = place[group]
    return splits


def _quotas(rows: NDArray[np.int64], share: float, most: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows of each label that together are `share` of all: by largest remainders, at most `most`."""
    exact = rows * share
    quotas: NDArray[np.int64] = np.minimum(np.floor(exact).astype(np.int64), np.maximum(most, 0))
    missing = round(float(rows.sum()) * share) - int(quotas.sum())
    for label in np.argsort(quotas - exact, kind="stable")[: max(0, missing)]:
        quotas[label] += quotas[label] < most[label]
    return quotas


def _keep_one_in_train(place: Codes, labels: NDArray[np.int32], sizes: NDArray[np.int32], count: int) -> None:
    """A group of equal rows may be all rows of a label: then its largest group moves to train."""
    trained = np.bincount(labels[place == TRAIN], minlength=count)
    for label in np.flatnonzero((trained == 0) & (np.bincount(labels, minlength=count) > 0)):
        mine = np.flatnonzero(labels == label)
        place[mine[np.argmax(sizes[mine])]] = TRAIN


def _mixed(hashes: Hashes, seed: int) -> Hashes:
    """Another order for another seed (splitmix64: Steele, Lea and Flood 2014)."""
    with np.errstate(over="ignore"):
        z = hashes + np.uint64(seed + 1) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))
