"""Findings about preference pairs: how far the length of an answer alone says which one is preferred."""

from collections.abc import Iterator

import numpy as np

from app.domain.data.findings import Details, FindingCode, Severity
from app.domain.data.splitting import Codes
from worker.ingest.findings.rows import LEAST_ROWS, Judged, judged
from worker.ingest.gathered import Gathered

UNEVEN, VERY_UNEVEN = 0.6, 0.75
"""Shares of the pairs in which the longer answer, or the shorter one, is the chosen one."""


def judge_pairs(gathered: Gathered, splits: Codes) -> Iterator[Judged]:
    """Length bias: a model that learned nothing but to prefer long answers would score as high."""
    if gathered.longer is None:
        return
    used = gathered.longer[splits >= 0]
    longer, shorter = int(np.count_nonzero(used > 0)), int(np.count_nonzero(used < 0))
    count = max(longer, shorter)
    if len(used) < LEAST_ROWS or count < UNEVEN * len(used):
        return
    direction = 1 if longer >= shorter else -1
    places = np.flatnonzero((splits >= 0) & (gathered.longer == direction))
    code: FindingCode = "longer-chosen" if direction > 0 else "shorter-chosen"
    severity: Severity = "warns" if count >= VERY_UNEVEN * len(used) else "notes"
    yield judged(code, severity, count, places, Details(of_rows=len(used)))
