"""What is odd about rows as a whole, from their hashes, labels and splits: repeats, leaks, labels."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.domain.datasets import SPLITS
from app.domain.findings import MOST_EXAMPLES, Finding, FindingCode, Severity
from app.domain.mapping import ColumnMapping
from app.domain.splitting import TEST, TRAIN, Codes, Splitting
from worker.reading.gathered import Gathered

LEAST_ROWS = 10


class Judged(NamedTuple):
    """A finding, and which rows to look at."""

    finding: Finding
    places: list[int]


def judge(gathered: Gathered, splits: Codes, mapping: ColumnMapping, splitting: Splitting) -> Iterator[Judged]:
    """Everything that is found, in no order."""
    yield from _sizes(splits)


def _judged(
    code: FindingCode,
    severity: Severity,
    count: int,
    message: str,
    remedy: str,
    places: Sequence[int] | NDArray[np.int64] = (),
    column: str = "",
) -> Judged:
    finding = Finding(code=code, severity=severity, count=count, message=message, remedy=remedy, column=column)
    return Judged(finding, [int(place) for place in places[:MOST_EXAMPLES]])


def _sizes(splits: Codes) -> Iterator[Judged]:
    counts = np.bincount(splits[splits >= 0], minlength=len(SPLITS))
    total = int(counts.sum())
    if total < LEAST_ROWS:
        rows = f"are {total} rows" if total != 1 else "is 1 row"
        what = f"There {rows} to learn from and to be tested on; at least {LEAST_ROWS} are needed."
        yield _judged("too-few-rows", "blocks", total, what, "Bring more rows.", np.flatnonzero(splits >= 0))
        return
    for split, count in zip(SPLITS, counts, strict=True):
        if not count:
            what = f"No row is in the {split} split."
            yield _judged("empty-split", "blocks", 0, what, "Choose other splits, or a larger share for it.")
    if TRAIN < TEST and 0 < counts[TEST] < 100:
        what = f"The test split has {counts[TEST]} rows: only large differences will be told apart."
        yield _judged("too-few-rows", "warns", int(counts[TEST]), what, "Bring more rows, or give it a larger share.")
