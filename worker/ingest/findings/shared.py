"""Findings about test items that have a part in common. Their scores are no independent draws: pairs of one prompt are
one cluster of the intervals, queries of one passage only if they have one group."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from app.domain.data.findings import Details, FindingCode
from app.domain.data.splitting import TEST, Codes
from worker.ingest.findings.rows import Judged, judged
from worker.ingest.rows.gathered import Gathered

MANY = 0.2
"""Share of the test split above which they are much less evidence than their number suggests."""


def judge_shared(gathered: Gathered, splits: Codes) -> Iterator[Judged]:
    """Pairs of one prompt, and queries of one passage."""
    tested = np.flatnonzero(splits == TEST)
    asks = gathered.asks[tested]
    if gathered.form in ("preference", "preference-messages"):
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
