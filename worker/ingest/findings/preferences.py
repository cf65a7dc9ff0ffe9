"""Findings about preference pairs: prompts that are a guess, pairs that contradict each other, and how far the length
of an answer alone says which one is preferred."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from app.domain.data.findings import Details, FindingCode, Severity
from app.domain.data.splitting import Codes
from worker.ingest.findings.rows import LEAST_ROWS, Judged, judged
from worker.ingest.rows.gathered import Gathered

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
