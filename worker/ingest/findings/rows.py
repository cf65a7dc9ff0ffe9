"""Findings about rows, from hashes, labels and splits: too few rows, duplicates, leakage, shared groups."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.domain.data.dataset import SPLITS
from app.domain.data.findings import MOST_EXAMPLES, Details, Finding, FindingCode, Severity, excerpt
from app.domain.data.splitting import TEST, TRAIN, VALIDATION, Codes, Hashes, units_of
from app.domain.tasks import PREFERENCES
from worker.ingest.rows.gathered import GROUP, Gathered

LEAST_ROWS = 10
FEW_TESTED = 100
MOST_LEAKED = 0.05
"""Share of the test split: with more training rows in it, its score says little about new data."""
MANY_REPEATED = 0.05
_NAMED_GROUPS = 3
Places = NDArray[np.int64]
NO_DETAILS = Details()


class Judged(NamedTuple):
    finding: Finding
    places: list[int]


class Pair(NamedTuple):
    held_out: int
    trained: int
    alike: float


def judged(
    code: FindingCode,
    severity: Severity,
    count: int,
    places: Sequence[int] | Places = (),
    details: Details = NO_DETAILS,
) -> Judged:
    finding = Finding(code=code, severity=severity, count=count, details=details)
    return Judged(finding, [int(place) for place in places[:MOST_EXAMPLES]])


def judge_rows(gathered: Gathered, splits: Codes) -> Iterator[Judged]:
    """The findings of rows of any format."""
    yield from _sizes(splits, gathered)
    if gathered.groups is not None:
        yield from _shared_groups(gathered, gathered.groups, splits)
    repeated = gathered.again[splits[gathered.again] >= 0]
    yield from _leaks(gathered.asks, splits, repeated)
    yield from _repeats(gathered.same, splits, repeated)


def _sizes(splits: Codes, gathered: Gathered) -> Iterator[Judged]:
    counts = np.bincount(splits[splits >= 0], minlength=len(SPLITS))
    total = int(counts.sum())
    if total < LEAST_ROWS:
        used = np.flatnonzero(splits >= 0)
        yield judged("too-few-rows", "blocks", total, used, Details(limit=LEAST_ROWS))
        return
    empty = [split for split, count in zip(SPLITS, counts, strict=True) if not count]
    train = splits == TRAIN
    if empty and gathered.groups is not None:
        units = len(np.unique(units_of(gathered.asks[train], gathered.groups[train])))
        if 0 < units <= len(empty):
            yield judged("too-few-groups", "blocks", units, np.flatnonzero(train), Details(limit=1 + len(empty)))
            return
    for split in empty:
        yield judged("empty-split", "blocks", 0, details=Details(split=split))
    if 0 < counts[TEST] < FEW_TESTED:
        yield judged("too-few-rows", "warns", int(counts[TEST]), details=Details(split="test"))


def _leaks(asks: NDArray[np.uint64], splits: Codes, repeated: Places) -> Iterator[Judged]:
    """Test rows that also occur in train; only predefined splits have any. `repeated`: the rows whose input occurs more
    than once."""
    trained, chosen_by, tested = (repeated[splits[repeated] == split] for split in (TRAIN, VALIDATION, TEST))
    of_test = tested[np.isin(asks[tested], asks[np.concatenate([trained, chosen_by])])]
    of_validation = chosen_by[np.isin(asks[chosen_by], asks[trained])]
    if len(of_test):
        rows = int(np.count_nonzero(splits == TEST))
        severity: Severity = "blocks" if len(of_test) / rows > MOST_LEAKED else "warns"
        yield judged("leak", severity, len(of_test), of_test, Details(split="test", of_rows=rows))
    if len(of_validation):
        yield judged("leak", "warns", len(of_validation), of_validation, Details(split="validation"))


def _shared_groups(gathered: Gathered, groups: Hashes, splits: Codes) -> Iterator[Judged]:
    """Test rows whose group also occurs in train or validation, and validation rows whose group occurs in train; only
    predefined splits have any. Up to three groups are named, each by an example row."""
    for split, earlier in ((TEST, (TRAIN, VALIDATION)), (VALIDATION, (TRAIN,))):
        held_out = np.flatnonzero((splits == split) & (groups != 0))
        shared = held_out[np.isin(groups[held_out], groups[np.isin(splits, earlier)])]
        if not len(shared):
            continue
        distinct, first = np.unique(groups[shared], return_index=True)
        places = shared[np.sort(first)][:_NAMED_GROUPS]
        details = Details(
            split=SPLITS[split],
            of_rows=int(np.count_nonzero(splits == split)),
            groups=len(distinct),
            labels=[excerpt(str(name)) for _place, name in gathered.shown(places, GROUP)],
        )
        yield judged("shared-groups", "warns", len(shared), places, details)


def _repeats(same: NDArray[np.uint64], splits: Codes, repeated: Places) -> Iterator[Judged]:
    order = repeated[np.lexsort((splits[repeated], same[repeated]))]
    again = (same[order][1:] == same[order][:-1]) & (splits[order][1:] == splits[order][:-1])
    if not again.any():
        return
    count = int(again.sum())
    severity: Severity = "warns" if count > MANY_REPEATED * np.count_nonzero(splits >= 0) else "notes"
    yield judged("duplicates", severity, count, np.sort(order[1:][again]))


MANY = 0.2
"""Share of the test split above which they are much less evidence than their number suggests."""


def judge_shared(gathered: Gathered, splits: Codes) -> Iterator[Judged]:
    """Pairs of one prompt, and queries of one passage."""
    tested = np.flatnonzero(splits == TEST)
    asks = gathered.asks[tested]
    if gathered.form in PREFERENCES:
        code: FindingCode = "shared-prompts"
        items, shared = len(tested), tested[_repeated(asks)]
    elif gathered.form == "query-passage":
        code = "shared-passages"
        passages = gathered.passages[tested]
        _pairs, first = np.unique(np.stack([passages, asks]), axis=1, return_index=True)
        common = np.unique(passages[first][_repeated(passages[first])])
        if gathered.groups is not None:  # queries of one group are one cluster anyway
            pairs = np.unique(np.stack([passages, gathered.groups[tested]]), axis=1)
            common = np.intersect1d(common, pairs[0][_repeated(pairs[0]) | (pairs[1] == 0)])
        several = np.flatnonzero(np.isin(passages, common))  # rows whose passage other queries have too
        shared = tested[several[np.sort(np.unique(asks[several], return_index=True)[1])]]  # a query is one item
        items = len(np.unique(asks))
    else:
        return
    if len(shared):
        yield judged(
            code, "warns" if len(shared) > MANY * items else "notes", len(shared), shared, Details(of_rows=items)
        )


def _repeated(hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which of them occur more than once."""
    _values, place, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    found: NDArray[np.bool_] = counts[place] > 1
    return found


UNEVEN, VERY_UNEVEN = 0.6, 0.75
"""Shares of the pairs in which the longer answer, or the shorter one, is the chosen one."""


def judge_pairs(gathered: Gathered, splits: Codes) -> Iterator[Judged]:
    if gathered.longer is None:
        return
    guessed = np.flatnonzero((splits >= 0) & gathered.guessed)
    if len(guessed):
        yield judged("guessed-prompts", "warns", len(guessed), guessed)
    contradicting = _contradicting(gathered, splits)
    if len(contradicting):
        yield judged("contradicting-pairs", "warns", len(contradicting), contradicting)
    yield from _length_bias(gathered.longer, splits)


def _contradicting(gathered: Gathered, splits: Codes) -> NDArray[np.int64]:
    """Pairs of one prompt and the same two answers, of which not always the same one is chosen."""
    used = np.flatnonzero(splits >= 0)
    _hashes, group = np.unique(gathered.unordered[used], return_inverse=True)
    one = np.empty(len(used), dtype=np.uint64)
    one[group] = gathered.same[used]  # of each group any
    found: NDArray[np.int64] = used[np.isin(group, group[one[group] != gathered.same[used]])]
    return found


def _length_bias(lengths: NDArray[np.int8], splits: Codes) -> Iterator[Judged]:
    """A model that learned nothing but to prefer long answers would score as high."""
    used = lengths[splits >= 0]
    longer, shorter = int(np.count_nonzero(used > 0)), int(np.count_nonzero(used < 0))
    count = max(longer, shorter)
    if len(used) < LEAST_ROWS or count < UNEVEN * len(used):
        return
    direction = 1 if longer >= shorter else -1
    places = np.flatnonzero((splits >= 0) & (lengths == direction))
    code: FindingCode = "longer-chosen" if direction > 0 else "shorter-chosen"
    severity: Severity = "warns" if count >= VERY_UNEVEN * len(used) else "notes"
    yield judged(code, severity, count, places, Details(of_rows=len(used)))
