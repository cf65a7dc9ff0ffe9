"""Splits: predefined by the source, or random. A dataset always has train, validation and test.

A row's split follows from a hash of its input (text or prompt) and a seed, so it does not depend on the order of the
rows; rows with the same input stay in one split, and so do rows of one group. Within a label the smallest hashes are
the test split, the next ones validation: additional rows move only the few at the edges.

    rows of a label    h_1 ≤ h_2 ≤ … ≤ h_n
    test               the first  test · n, rounded so that all labels together have test · N (largest remainders)
    validation         the next   validation · n, in the same way
    train              the rest, and never less than one

Groups are larger and have several labels. In the order of their hashes each goes into test, and of the rest into
validation, if it fits there and brings the rows n_l of each label l nearer to their share t_l of all: if it makes
Σ (n_l − t_l)² / t_l smaller. Then one more may, which does not fit.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from app.domain.data.dataset import SPLITS, Split
from app.domain.errors import FieldError
from app.domain.messages import _, choose_from
from app.domain.validation import Verbatim

TRAIN, VALIDATION, TEST = range(3)
"""Places in `SPLITS`."""
LEFT_OUT = -1
Hashes = NDArray[np.uint64]
Codes = NDArray[np.int8]


class Splitting(BaseModel):
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
    inputs: Hashes,
    labels: NDArray[np.int32] | None,
    splitting: Splitting,
    predefined: Codes | None = None,
    groups: Hashes | None = None,
) -> Codes:
    """The split of each row, as a place in `SPLITS`, or LEFT_OUT.

    inputs        [n] a hash of each row's input; equal ones stay in one split
    labels        [n] or None: by which to stratify
    predefined    [n] the predefined splits; missing ones are taken from train
    groups        [n] or None: a hash of each row's group, 0 without one; equal ones stay in one split
    """
    cut = _cut
    if groups is not None:
        cut, inputs = _cut_groups, units_of(inputs, groups)
    if splitting.kind == "predefined":
        assert predefined is not None  # noqa: S101 the caller has read it
        splits = predefined.copy()
        missing = splitting.missing()
        shares = (
            splitting.test if "test" in missing else 0.0,
            splitting.validation if "validation" in missing else 0.0,
        )
        train = np.flatnonzero(splits == TRAIN)
        splits[train] = cut(inputs[train], None if labels is None else labels[train], *shares, splitting.seed)
        return splits
    return cut(inputs, labels, splitting.test, splitting.validation, splitting.seed)


def linked(inputs: Hashes, groups: Hashes) -> Hashes:
    """[n] the smallest group hash among the rows that equal inputs and equal groups link, directly or through other
    rows; 0 where none of them has a group. Each step at least halves the distance to the first of the linked rows."""
    rows = np.arange(len(inputs))
    keys = [np.unique(inputs, return_inverse=True)[1], np.unique(groups, return_inverse=True)[1]]
    keys[1] = np.where(groups == 0, len(inputs) + rows, keys[1])  # without a group: each its own
    first, before = rows, None
    while before is None or not np.array_equal(first, before):
        before = first
        for key in keys:
            least = np.full(2 * len(inputs), len(inputs))
            np.minimum.at(least, key, first)
            first = least[key]
        first = first[first]
    names = np.full(len(inputs), np.iinfo(np.uint64).max, dtype=np.uint64)
    np.minimum.at(names, first[groups != 0], groups[groups != 0])
    found = names[first]
    return np.where(found == np.iinfo(np.uint64).max, np.uint64(0), found)


def units_of(inputs: Hashes, groups: Hashes) -> Hashes:
    """[n] what stays in one split: the group that a row is linked to, else its input."""
    joined = linked(inputs, groups)
    return np.where(joined == 0, inputs, joined)


def drop_duplicates(inputs: Hashes, splits: Codes) -> Codes:
    """Rows with the same input (equal hashes, [n]): the first stays, in test, else in validation, else in train."""
    left = splits.copy()
    order = np.lexsort((np.arange(len(inputs)), -splits.astype(np.int16), inputs))
    same = inputs[order][1:] == inputs[order][:-1]
    left[order[1:][same]] = LEFT_OUT
    return left


def _cut(units: Hashes, labels: NDArray[np.int32] | None, test: float, validation: float, seed: int) -> Codes:
    """Train, validation and test by place in the order of hashes, within each label."""
    if len(units) == 0 or test + validation == 0:
        return np.full(len(units), TRAIN, dtype=np.int8)
    # Four bytes a number: a file may have millions of rows.
    _, first, unit = np.unique(units, return_index=True, return_inverse=True)
    unit = unit.astype(np.int32)
    sizes = np.bincount(unit).astype(np.int32)
    of_unit = np.zeros(len(first), dtype=np.int32)
    if labels is not None:  # of those that stand under several the lowest, in whatever order they come
        of_unit[:] = labels[first]
        np.minimum.at(of_unit, unit, labels)
    rows = np.bincount(of_unit, weights=sizes).astype(np.int64)
    tested = _quotas(rows, test, rows - 1)
    validated = _quotas(rows, validation, rows - 1 - tested)
    # Units by label and then by hash, and how many rows of the label come before each.
    order = np.lexsort((_mixed(units[first], seed), of_unit)).astype(np.int32)
    label, before = of_unit[order], np.cumsum(sizes[order], dtype=np.int32)
    before -= sizes[order]
    before -= (np.cumsum(rows) - rows).astype(np.int32)[label]
    place = np.full(len(first), TRAIN, dtype=np.int8)
    place[order[before < (tested + validated)[label]]] = VALIDATION
    place[order[before < tested[label]]] = TEST
    _keep_one_in_train(place, of_unit, sizes, len(rows))
    splits: Codes = place[unit]
    return splits


def _cut_groups(units: Hashes, labels: NDArray[np.int32] | None, test: float, validation: float, seed: int) -> Codes:
    """Train, validation and test of whole units ([n] hashes); all train if there are too few units."""
    _, first, unit = np.unique(units, return_index=True, return_inverse=True)
    kinds = np.zeros(len(units), dtype=np.int64) if labels is None else labels.astype(np.int64)
    rows = np.bincount(kinds)
    cells, counts = np.unique(unit * len(rows) + kinds, return_counts=True)
    place = np.full(len(first), TRAIN, dtype=np.int8)
    order = np.argsort(_mixed(units[first], seed))
    shares = [(code, share) for code, share in ((TEST, test), (VALIDATION, validation)) if share]
    if len(first) <= len(shares):
        return place[unit]
    for filled, (code, share) in enumerate(shares):
        free = order[place[order] == TRAIN]
        most = len(free) - (len(shares) - filled)  # each later split, and train, keeps one
        due: NDArray[np.float64] = share * rows.astype(np.float64)
        place[_for_split(free, cells // len(rows), cells % len(rows), counts, due, most)] = code
    return place[unit]


def _for_split(
    free: NDArray[np.int64],
    units: NDArray[np.int64],
    labels: NDArray[np.int64],
    counts: NDArray[np.int64],
    due: NDArray[np.float64],
    most: int,
) -> list[int]:
    """At least one and at most `most` of the `free` units, in their order, for a split that is `due` [L] rows of each
    label. `units`, `labels`, `counts`: the rows of each label in each unit, by unit."""
    missing, chosen = due.copy(), list[int]()
    ends = np.searchsorted(units, np.arange(units[-1] + 2))
    for unit in free.tolist():
        if len(chosen) == most or missing.sum() < 1:
            break
        mine = slice(ends[unit], ends[unit + 1])
        label, rows = labels[mine], counts[mine]
        if rows.sum() <= missing.sum() and (rows * (2 * missing[label] - rows) / due[label]).sum() > 0:
            missing[label] -= rows
            chosen.append(unit)
    gains = np.bincount(units, weights=counts * (2 * missing[labels] - counts) / due[labels])
    gains[chosen] = -np.inf
    best = int(free[np.argmax(gains[free])])
    return [*chosen, best] if not chosen or (len(chosen) < most and gains[best] > 0) else chosen


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
