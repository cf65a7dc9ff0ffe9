"""What is odd about rows as a whole, from their hashes, labels and splits: too few, repeated, in two splits."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.domain.datasets import SPLITS
from app.domain.findings import MOST_EXAMPLES, Finding, FindingCode, Severity
from app.domain.splitting import TEST, TRAIN, VALIDATION, Codes
from worker.reading.gathered import Gathered

LEAST_ROWS = 10
FEW_TESTED = 100
MOST_LEAKED = 0.05
"""Of the test split: with more rows that were trained on, a score is not one of what is new to the model."""
MANY_REPEATED = 0.05
Places = NDArray[np.int64]


class Judged(NamedTuple):
    """A finding, and which rows to look at."""

    finding: Finding
    places: list[int]


def judged(
    code: FindingCode,
    severity: Severity,
    count: int,
    message: str,
    remedy: str = "",
    places: Sequence[int] | Places = (),
) -> Judged:
    """A finding of some rows."""
    finding = Finding(code=code, severity=severity, count=count, message=message, remedy=remedy)
    return Judged(finding, [int(place) for place in places[:MOST_EXAMPLES]])


def judge_rows(gathered: Gathered, splits: Codes) -> Iterator[Judged]:
    """Whatever their format."""
    yield from _sizes(splits)
    there = gathered.again[splits[gathered.again] >= 0]
    yield from _leaks(gathered.asks, splits, there)
    yield from _repeats(gathered.same, splits, there)


def rows_told(count: int) -> str:
    """`1 row`, `1,200 rows`."""
    return f"{count:,} row{'s' if count != 1 else ''}"


def _sizes(splits: Codes) -> Iterator[Judged]:
    counts = np.bincount(splits[splits >= 0], minlength=len(SPLITS))
    total = int(counts.sum())
    if total < LEAST_ROWS:
        what = f"There {'are' if total != 1 else 'is'} {rows_told(total)} to learn from and to be tested on"
        there = np.flatnonzero(splits >= 0)
        need = f"{what}; at least {LEAST_ROWS} are needed."
        yield judged("too-few-rows", "blocks", total, need, "Bring more rows.", there)
        return
    for split, count in zip(SPLITS, counts, strict=True):
        if not count:
            what = f"No row is in the {split} split."
            yield judged("empty-split", "blocks", 0, what, "Choose other splits, or a larger share for it.")
    if 0 < counts[TEST] < FEW_TESTED:
        what = f"The test split has {rows_told(int(counts[TEST]))}: only large differences will be told apart."
        yield judged("too-few-rows", "warns", int(counts[TEST]), what, "Bring more rows, or give it a larger share.")


def _leaks(asks: NDArray[np.uint64], splits: Codes, there: Places) -> Iterator[Judged]:
    """Rows to be tested on that are trained on as well. Only a source's own splits have any. `there`: the rows that ask
    what another asks."""
    trained, chosen_by, tested = (there[splits[there] == split] for split in (TRAIN, VALIDATION, TEST))
    of_test = tested[np.isin(asks[tested], asks[np.concatenate([trained, chosen_by])])]
    of_validation = chosen_by[np.isin(asks[chosen_by], asks[trained])]
    remedy = "Choose that repeated rows are left out: of those that ask the same one stays, in test if one is there."
    if len(of_test):
        rows = int(np.count_nonzero(splits == TEST))
        share = len(of_test) / rows
        what = f"{len(of_test):,} of {rows_told(rows)} of the test split ({share:.1%}) are in train or validation"
        severity: Severity = "blocks" if share > MOST_LEAKED else "warns"
        yield judged(
            "leak", severity, len(of_test), f"{what} too: what is known by heart counts as learnt.", remedy, of_test
        )
    if len(of_validation):
        what = f"{rows_told(len(of_validation))} of the validation split are in train too"
        yield judged("leak", "warns", len(of_validation), f"{what}.", remedy, of_validation)


def _repeats(same: NDArray[np.uint64], splits: Codes, there: Places) -> Iterator[Judged]:
    """Rows that are the same within a split."""
    order = there[np.lexsort((splits[there], same[there]))]
    again = (same[order][1:] == same[order][:-1]) & (splits[order][1:] == splits[order][:-1])
    if not again.any():
        return
    count = int(again.sum())
    severity: Severity = "warns" if count > MANY_REPEATED * np.count_nonzero(splits >= 0) else "notes"
    what = f"{rows_told(count)} repeat an earlier one of the same split, but for white space"
    remedy = "Nothing is to be done if that is how often they come; else choose that repeated rows are left out."
    if count == 1:
        what = what.replace("repeat", "repeats", 1)
    yield judged("duplicates", severity, count, f"{what}.", remedy, np.sort(order[1:][again]))
